"""Records that the program stores as JSON and reads again: typed, so that damage is found on reading."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from frugalclip.core.errors import FrugalclipError, ModelError, shortened
from frugalclip.core.records import WRITTEN_BY_US, read_json


class StoredRecord(BaseModel):
    """Base class of stored records: frozen, no other keys, no value of another type, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


RecordT = TypeVar("RecordT", bound=StoredRecord)


def read_object(
    path: Path, *, error: type[FrugalclipError] = ModelError, advice: str = WRITTEN_BY_US
) -> dict[str, Any]:
    """A JSON file whose top level is an object.

    Args:
        path: the file.
        error: class of the sentence.
        advice: what to do.

    Raises:
        FrugalclipError: of that class, for anything else.
    """
    content = read_json(path, error=error, advice=advice)
    if not isinstance(content, dict):
        raise error(f"{path} holds {shortened(content, 40)}, expected a JSON object; {advice}.")
    return content


def read_record(
    path: Path,
    kind: type[RecordT],
    *,
    error: type[FrugalclipError] = ModelError,
    advice: str = WRITTEN_BY_US,
) -> RecordT:
    """A stored record.

    Args:
        path: the file.
        kind: the record's class.
        error: class of the sentence.
        advice: what to do.

    Raises:
        FrugalclipError: of that class, naming the file, the key and what was expected.
    """
    return typed(read_object(path, error=error, advice=advice), kind, path=path, error=error, advice=advice)


def typed(
    content: dict[str, Any],
    kind: type[RecordT],
    *,
    path: Path,
    error: type[FrugalclipError] = ModelError,
    advice: str = WRITTEN_BY_US,
) -> RecordT:
    """A record from the content of a file; arguments as `read_record`."""
    try:
        return kind.model_validate(content)
    except ValidationError as fault:
        raise error(f"{path}: {_first_fault(fault)}; {advice}.") from None


def _first_fault(fault: ValidationError) -> str:
    first = fault.errors()[0]
    name = shortened(".".join(map(str, first["loc"])), 80)
    if first["type"] == "missing":
        return f"'{name}' is missing"
    if first["type"] == "extra_forbidden":
        return f"'{name}' is not known"
    expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"'{name}' is {shortened(first['input'], 60)}, expected {expected}"
