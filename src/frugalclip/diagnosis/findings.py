"""Findings about an installation, and the versions of packages from their metadata."""

from dataclasses import dataclass
from importlib import metadata

GOOD, ABSENT, BAD = "good", "absent", "bad"  # absent is a choice, bad is a fault


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis."""

    section: str
    name: str
    value: str
    state: str = GOOD
    fix: str | None = None  # a command, or a sentence with one


@dataclass(frozen=True)
class Diagnosis:
    """The findings of `doctor`, in the order shown."""

    findings: list[Finding]

    @property
    def faults(self) -> list[Finding]:
        """Findings that need a fix; missing extras are no faults."""
        return [finding for finding in self.findings if finding.state == BAD]


def version_of(distribution: str) -> str | None:
    """The installed version of a distribution; None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
    except Exception as error:  # half-removed packages leave metadata that does not parse
        return f"unreadable ({type(error).__name__})"


def one_line(text: str, limit: int = 160) -> str:
    """The text on one line, cut to `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
