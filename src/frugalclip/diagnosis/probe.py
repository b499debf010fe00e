"""Imports torch and torchvision in a process of their own, because a broken pair can end the process.

`python -m frugalclip.diagnosis.probe` writes one JSON line a module.
"""

import importlib.util
import json
import subprocess
import sys
from typing import Any

IMPORT_SECONDS = 120
_MODULES = ("torch", "torchvision")


def probe_imports() -> dict[str, dict[str, Any]]:
    """The attributes of torch and torchvision that matter here, or `{"error": …}`, by module."""
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", "frugalclip.diagnosis.probe"],
            capture_output=True,
            text=True,
            timeout=IMPORT_SECONDS,
        )
        lines = child.stdout.splitlines()
        end = f"the import ended the process with code {child.returncode}: {_last_line(child.stderr)}"
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        lines = (output.decode(errors="replace") if isinstance(output, bytes) else output).splitlines()
        end = f"the import took over {IMPORT_SECONDS} s"
    except OSError as error:
        lines, end = [], f"no second process could be started: {error}"
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line.startswith('{"module"'):
            content = json.loads(line)
            found[content.pop("module")] = content
    return {name: found.get(name, {"error": end}) for name in _MODULES}


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it printed nothing"])[-1]


def _examine(name: str) -> dict[str, Any]:
    if importlib.util.find_spec(name) is None:
        return {"error": "it is not installed"}
    try:
        module = importlib.import_module(name)
        return _examine_torch(module) if name == "torch" else {"version": module.__version__}
    except Exception as error:  # also RuntimeError: operator torchvision::nms does not exist
        return {"error": f"{type(error).__name__}: {error}"}


def _examine_torch(torch: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"version": torch.__version__, "threads": torch.get_num_threads(), "gpus": []}
    found["build"] = "CPU only"
    if torch.version.cuda:
        found["build"] = f"CUDA {torch.version.cuda}"
    elif torch.version.hip:
        found["build"] = f"ROCm {torch.version.hip}"
    found["mps"] = bool(getattr(torch.backends, "mps", None) and torch.backends.mps.is_available())
    try:
        for i in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(i)
            bf16 = properties.major >= 8 or bool(torch.version.hip)
            found["gpus"].append({"name": properties.name, "memory": properties.total_memory, "bf16": bf16})
    except Exception as error:  # a driver older than the build
        found["gpu_error"] = str(error)
    return found


if __name__ == "__main__":
    for module_name in _MODULES:  # a line as soon as it is known
        print(json.dumps({"module": module_name, **_examine(module_name)}), flush=True)
