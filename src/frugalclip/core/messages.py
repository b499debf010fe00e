"""Sentences of the command line: errors and warnings as a user reads them."""

import errno
import io
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import typer

from frugalclip.core.errors import FrugalclipError, known_names
from frugalclip.core.guard import is_out_of_memory
from frugalclip.core.processes import launched_processes, launched_rank
from frugalclip.core.users_text import sentence


def sentence_of(error: Exception) -> str | None:
    """What a user can act on, or None where the fault is ours."""
    if isinstance(error, FrugalclipError):
        return f"{type(error).__name__}: {error}"
    if isinstance(error, typer.Abort):
        return "frugalclip stopped: the input ended before it was complete."
    if hasattr(error, "format_message"):  # typer's own, whose class moved between its versions
        return _usage(error)
    if is_out_of_memory(error):
        return (
            "MemoryError: there is not enough memory for this; lower the batch, the sizes of the model or "
            "those of the images; --debug shows where it ended."
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        place = error.filename or "a file"
        return f"DiskFullError: the disk is full, so {place} could not be written; free space and run again."
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return f"OSError: {error.strerror}{place}; --debug shows where."
    return None


def _usage(error: Any) -> str:
    """A sentence for a command line that does not parse."""
    context = getattr(error, "ctx", None)
    place = context.command_path if context else "frugalclip"
    option = getattr(error, "option_name", None)
    if option is None or not hasattr(error, "possibilities"):
        message = error.format_message().replace("Value error, ", "").rstrip(".")
        return f"UsageError: {message}; see '{place} --help'."
    known = (
        [name for parameter in context.command.params for name in parameter.opts if name.startswith("--")]
        if context
        else []
    )
    known = [name for name in known if name != "--help"]
    takes_settings = context is not None and any(
        parameter.name == "overrides" for parameter in context.command.params
    )
    name = option.lstrip("-").partition("=")[0]
    settings = f" Settings of the recipe are written without dashes: {name}=VALUE." if takes_settings else ""
    return f"UsageError: {place} has no option {option}; {known_names(option, known)}{settings}"


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """Our own warnings are for users and take one line; others keep their place in the code."""
    ours = str(Path(__file__).parents[1]) in filename
    foreign = warnings.formatwarning(message, category, filename, lineno, line)
    text = f"warning: {sentence(str(message))}\n" if ours else foreign
    if prints(text):
        (file or sys.stderr).write(text)


def prints(text: str) -> bool:
    """Whether this process is the one that prints a sentence which several processes may have."""
    if launched_processes() == 1:
        return True
    from frugalclip.core.distributed import is_first_to_print  # loads torch, which one process may not need

    return is_first_to_print(text)


def only_main_prints() -> AbstractContextManager[object]:
    """Leave what is printed to the main one of the processes that torchrun started."""
    return redirect_stdout(io.StringIO()) if launched_rank() else nullcontext()
