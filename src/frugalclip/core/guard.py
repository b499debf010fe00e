"""One guard around every reader of bytes that others wrote, or that were stored and may be damaged.

Libraries answer damage with whatever they stumble over: wrong types, sizes and depths, other encodings, even
a panic of compiled code. Inside `reading` all of it becomes one sentence with the file, the reason and the
next step.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from frugalclip.core.errors import DataError, FrugalclipError, shortened

COPY_AGAIN = "copy it again, or restore it"


@contextmanager
def reading(
    place: object, *, advice: str = COPY_AGAIN, error: type[FrugalclipError] = DataError
) -> Iterator[None]:
    """Turn whatever goes wrong while something is read into a sentence.

    Args:
        place: the file, or the place within one.
        advice: what to do.
        error: class of the sentence.

    Raises:
        FrugalclipError: of that class; one raised inside passes as it is.
    """
    try:
        yield
    except (FrugalclipError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as fault:  # a panic of compiled code is no Exception
        raise error(f"{place} cannot be read ({reason(fault)}); {advice}.") from fault


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether something was larger than the memory, or than any memory."""
    words = ("allocate memory", "Storage size calculation overflowed")
    is_ours = isinstance(fault, MemoryError) or type(fault).__name__ == "OutOfMemoryError"  # torch's
    return is_ours or any(one in str(fault) for one in words)


def reason(fault: BaseException) -> str:
    """Why something cannot be read, in a few words."""
    if isinstance(fault, UnicodeDecodeError):
        return f"byte {fault.start:,} is not {fault.encoding.upper()}"
    if isinstance(fault, RecursionError):
        return "it is nested too deeply"
    if is_out_of_memory(fault):
        return "it needs more memory than there is"
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror
    if isinstance(fault, KeyError):
        return f"it has no {shortened(fault, 80)}"
    return shortened((str(fault).splitlines() or [type(fault).__name__])[0].rstrip("."))


def parse_json(text: str | bytes, *, allow_nan: bool = False) -> Any:
    """JSON as its standard has it: UTF-8, and no NaN or infinity, whether written out or as 1e999.

    Args:
        text: to parse.
        allow_nan: read NaN and infinity too, as rows of a run may hold them.

    Raises:
        ValueError: for what is not JSON, and RecursionError for what is nested too deeply; see `reading`.
    """
    whole = text.decode("utf-8") if isinstance(text, bytes) else text
    options = {} if allow_nan else {"parse_constant": _refuse, "parse_float": _finite}
    try:
        return json.loads(whole, **options)
    except json.JSONDecodeError as fault:
        raise ValueError(f"it is not JSON at line {fault.lineno}: {fault.msg}") from fault


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(shortened(text, 40))
