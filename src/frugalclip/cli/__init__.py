"""The command line: names, options and one-sentence errors.

A verb is imported when it is called, so `--help` loads no torch. Exit codes: 0 done, 1 a fault of frugalclip
(with its traceback), 2 the input cannot be used, 3 bad data was found, 130 interrupted.
"""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from frugalclip import __version__
from frugalclip.cli import (
    adapt_interpolate,
    adapt_nmtune,
    adapt_probe,
    audit,
    curation,
    data,
    models,
    search,
    training,
)
from frugalclip.cli.groups import BAD_DATA, INTERRUPTED, app
from frugalclip.core.messages import only_main_prints, prints, sentence_of, show_warning
from frugalclip.core.processes import launched_processes
from frugalclip.core.users_text import sentence as shown

__all__ = [
    "BAD_DATA",
    "INTERRUPTED",
    "adapt_interpolate",
    "adapt_nmtune",
    "adapt_probe",
    "app",
    "audit",
    "curation",
    "data",
    "main",
    "models",
    "search",
    "training",
]  # the verbs register themselves


DOWNLOAD = "FRUGALCLIP_DOWNLOAD"  # as in interop.hub, whose import would load torch


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"frugalclip {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", metavar="", help="Show the traceback of an error; may stand anywhere.")
    ] = False,
    download: Annotated[
        bool,
        typer.Option(
            "--download",
            metavar="",
            help="Fetch models by name that are not in the hub's cache; may stand anywhere.",
        ),
    ] = False,
) -> None:
    """Read by `main`, which takes --debug and --download out wherever they stand; here for the help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: words after the program's name; by default those of the process.

    Returns:
        The exit code.

    Raises:
        Exception: whatever is not the user's to mend, or anything with --debug or FRUGALCLIP_DEBUG=1.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or os.environ.get("FRUGALCLIP_DEBUG", "0") not in ("", "0")
    before = os.environ.get(DOWNLOAD)
    if "--download" in words:
        os.environ[DOWNLOAD] = "1"  # for this command and the processes that it starts
    words = [word for word in words if word not in ("--debug", "--download")]  # often put at the end
    warnings.showwarning = show_warning
    # Threads that wait for each other spin briefly, then sleep. Spinning long takes the core from the thread
    # they wait for; sleeping at once costs a quarter of the speed on a quiet machine (docs/log.md). Torch
    # reads this when it is loaded, which is after this line.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    try:
        with only_main_prints():
            code = app(args=words, prog_name="frugalclip", standalone_mode=False) or 0
        _leave_the_group()
        return code
    except Exception as error:
        if debug or (sentence := sentence_of(error)) is None:
            raise
        if prints(sentence):
            typer.echo(shown(sentence), err=True)
        return 2
    finally:
        os.environ.pop(DOWNLOAD, None)
        if before is not None:
            os.environ[DOWNLOAD] = before


def _leave_the_group() -> None:
    """Leave torchrun's process group while Python still runs: gloo's threads abort a process that ends first.

    After an error the process just ends. Leaving would wait for sums that the others may never join.
    """
    if launched_processes() > 1:
        from frugalclip.core import distributed

        distributed.stop()
