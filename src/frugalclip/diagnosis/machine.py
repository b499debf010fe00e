"""Devices, threads, disk, memory and environment variables of this machine."""

import os
import platform
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from frugalclip.diagnosis.findings import ABSENT, BAD, GOOD, Finding, one_line

FOLDERS = {
    "FRUGALCLIP_PACKS": "larger packs for benchmarks",
    "FRUGALCLIP_PARITY_DIR": "arrays for the parity tests",
}
LOW_DISK = 5e9  # bytes; a demo run takes some 0.1e9, the environment 6e9
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def examine_devices(imports: dict[str, dict[str, Any]]) -> Iterable[Finding]:
    """The processor, and the GPUs that torch finds.

    Args:
        imports: from `probe.probe_imports`.
    """
    torch = imports["torch"]
    yield Finding("devices", "cpu", _cpu())
    for i, gpu in enumerate(torch.get("gpus", [])):
        memory, bf16 = f"{gpu['memory'] / 2**30:.0f} GiB", "yes" if gpu["bf16"] else "no"
        yield Finding("devices", f"cuda:{i}", f"{gpu['name']}, {memory}, bf16 {bf16}")
    if torch.get("mps"):
        yield Finding("devices", "mps", "available")
    if not torch.get("gpus") and shutil.which("nvidia-smi") and "error" not in torch:
        reason = torch.get("gpu_error") or f"torch is a {torch['build']} build"
        value = f"nvidia-smi is here, but torch sees no GPU ({one_line(reason)})"
        fix = "check nvidia-smi; a CPU build of torch needs: python -m pip install --force-reinstall torch"
        yield Finding("devices", "cuda", value, BAD, fix)


def _cpu() -> str:
    name, flags = platform.processor() or platform.machine(), ""
    text = _read(Path("/proc/cpuinfo"))
    names, flag_lines = re.search(r"model name\s*:\s*(.+)", text), re.search(r"flags\s*:\s*(.+)", text)
    name = names[1].strip() if names else name
    known = set(flag_lines[1].split()) if flag_lines else set()
    have = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in known]
    flags = f", {' '.join(have)}" if have else ""
    if have and not {"avx512_bf16", "amx_bf16"} & known:
        flags += " (no bf16 arithmetic: train in fp32)"
    return f"{name}, {_usable_cpus()} of {os.cpu_count()} cores usable{flags}"


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def examine_threads(imports: dict[str, dict[str, Any]]) -> Iterable[Finding]:
    """Threads of torch against usable cores.

    Args:
        imports: from `probe.probe_imports`.
    """
    threads, cores = imports["torch"].get("threads"), _usable_cpus()
    if threads is None:
        yield Finding("threads", "torch", "unknown, since torch does not import", ABSENT)
    elif threads > cores:
        value = f"{threads} threads on {cores} usable cores: they wait for each other"
        yield Finding("threads", "torch", value, BAD, f"export OMP_NUM_THREADS={cores}")
    else:
        yield Finding("threads", "torch", f"{threads} on {cores} usable cores")
    settings = ", ".join(f"{name}={os.environ[name]}" for name in _THREADS if name in os.environ)
    yield Finding("threads", "environment", settings or f"{' and '.join(_THREADS)} are not set")


def examine_machine() -> Iterable[Finding]:
    """Disk, system, memory, and the folders that environment variables name."""
    disk, here = shutil.disk_usage(Path.cwd()), Path.cwd()
    value = f"{disk.free / 1e9:.1f} GB free of {disk.total / 1e9:.0f} GB at {here}"
    fix = "free some space, or give --out on another disk" if disk.free < LOW_DISK else None
    yield Finding("machine", "disk here", value, BAD if fix else GOOD, fix)
    yield Finding("machine", "system", platform.platform())
    memory = re.search(r"MemAvailable:\s+(\d+) kB", _read(Path("/proc/meminfo")))
    if memory:
        yield Finding("machine", "memory", f"{int(memory[1]) / 2**20:.1f} GiB available")
    for name, purpose in FOLDERS.items():
        value = os.environ.get(name)
        if value and Path(value).is_dir():
            yield Finding("machine", name, f"{value} ({purpose})")
        elif value:
            fix = f"unset {name}, or set it to the folder"
            yield Finding("machine", name, f"{value} is not a folder ({purpose})", BAD, fix)


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""
