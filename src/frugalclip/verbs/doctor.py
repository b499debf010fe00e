"""`frugalclip doctor`: what this installation can do, what it lacks, and the command that fixes it.

Nothing here trusts the installation: packages are looked up in their metadata, and torch and torchvision are
imported in a process of their own, because a broken pair of them can end the process that imports it.
"""

from collections.abc import Callable, Iterable

from rich.table import Table
from rich.text import Text

from frugalclip.core.terminal import Terminal
from frugalclip.diagnosis import models
from frugalclip.diagnosis.findings import ABSENT, BAD, GOOD, Diagnosis, Finding, one_line
from frugalclip.diagnosis.machine import examine_devices, examine_machine, examine_threads
from frugalclip.diagnosis.packages import examine_extras, examine_torch, examine_versions
from frugalclip.diagnosis.probe import probe_imports

_MARKS = {GOOD: ("+", "green"), ABSENT: ("-", "dim"), BAD: ("!", "bold red")}


def doctor() -> Diagnosis:
    """Examine the installation and the machine.

    Returns:
        The findings. A part that cannot be examined becomes a finding itself: this function does not raise on
        a broken installation.
    """
    imports = probe_imports()
    examinations: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("versions", examine_versions),
        ("torch", lambda: examine_torch(imports)),
        ("devices", lambda: examine_devices(imports)),
        ("threads", lambda: examine_threads(imports)),
        ("extras", examine_extras),
        (models.MODELS, models.examine_models),
        (models.BACKBONES, models.examine_backbones),
        (models.PARTS, models.examine_pretrained),
        ("machine", examine_machine),
    ]
    return Diagnosis([finding for section, run in examinations for finding in _guarded(section, run)])


def _guarded(section: str, examine: Callable[[], Iterable[Finding]]) -> list[Finding]:
    try:
        return list(examine())
    except Exception as error:  # a diagnosis has to survive what it diagnoses
        value = f"failed with {type(error).__name__}: {one_line(str(error))}"
        return [Finding(section, "examination", value, BAD, "report this line as an issue")]


def show(result: Diagnosis) -> None:
    """Print the findings by section, and what to fix at the end."""
    console = Terminal()
    for section in dict.fromkeys(finding.section for finding in result.findings):
        console.print(_section([one for one in result.findings if one.section == section], section))
        console.print()
    names = ", ".join(fault.name for fault in result.faults)
    end = f"{len(result.faults)} to fix: {names}." if result.faults else "Ready."
    console.print(Text(end, style="bold"))


def _section(findings: list[Finding], title: str) -> Table:
    table = Table(
        box=None, show_header=False, padding=(0, 1), title=title, title_justify="left", title_style="bold"
    )
    for finding in findings:
        mark, style = _MARKS[finding.state]
        value = Text(finding.value)
        if finding.fix:
            value.append(f"\n{finding.fix}", style="cyan")
        table.add_row(Text(mark, style=style), Text(finding.name), value)
    return table
