"""Captions and fields in the files beside an image: `.txt`, `.json` and `.cls`."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from frugalclip.sources.caption_values import caption_value, is_conversation
from frugalclip.sources.captions import decoded, mended, readable, readable_by_language
from frugalclip.sources.column_names import CAPTION_NAMES
from frugalclip.sources.languages import is_code, languages_beside, languages_in, texts_in, training_captions

ID_KEY = "__id__"  # in the JSON of a sample whose id cannot be the name of a file
LARGEST_TEXT = 2**20


@dataclass
class SidecarTexts:
    """Captions and fields of the files beside an image."""

    captions: list[str] = field(default_factory=list)
    by_language: dict[str, list[str]] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    fault: tuple[str, str] | None = None  # reason and detail
    mended: str | None = None  # how a text that is not UTF-8 was read


class TooLong(Exception):
    """A text that is too long to be a caption."""


def read_beside(read: Callable[[str], bytes | None], *, mend: bool = False) -> SidecarTexts:
    """Captions and fields of one sample.

    Args:
        read: gives the bytes of the file with an extension such as `.txt`, or None where there is none.
        mend: read texts in another encoding than UTF-8 where there is one sensible way.
    """
    result = SidecarTexts()

    def content(extension: str) -> str | None:
        data = read(extension)
        return None if data is None else _content(data, extension, result, mend)

    try:
        lines, record, label = content(".txt"), content(".json"), content(".cls")
        if lines is not None:
            result.captions = [line.strip() for line in lines.splitlines() if line.strip()]
        if record is not None:
            _read_record(json.loads(record), result)
        if label is not None:
            _read_label(label.strip(), result)
    except UnicodeError as error:
        result.fault = (
            "not-utf8",
            f"{error.reason} at byte {error.start}" if isinstance(error, UnicodeDecodeError) else str(error),
        )
    except TooLong as error:
        result.fault = "caption-too-long", str(error)
    except (ValueError, RecursionError) as error:
        result.fault = "not-json", str(error)
    result.captions, cause = readable(result.captions)
    result.by_language = readable_by_language(result.by_language)
    if cause and not result.captions:
        result.fault = result.fault or (cause, "the text beside the image")
    return result


def _content(data: bytes, extension: str, result: SidecarTexts, mend: bool) -> str:
    """Text of a file beside an image."""
    try:
        content = decoded(data)
        if "\0" not in content or not mend:
            return content
        error = None
    except UnicodeDecodeError as caught:
        error = caught
    found = mended(data) if mend else None
    if found is None:
        if error is not None:
            raise error
        return decoded(data)
    result.mended = f"{extension} read as {found[1]}"
    return found[0]


def _read_record(record: Any, result: SidecarTexts) -> None:
    if not isinstance(record, dict):
        raise ValueError(f"the JSON beside is a {type(record).__name__}, expected an object")
    json.dumps(record, ensure_ascii=False).encode()  # lone surrogates are valid JSON and no text
    if ID_KEY in record:  # written by `data convert`: keys are what they are called
        result.captions = texts_in(record.get("captions"))
        result.by_language = languages_in(record.get("captions_by_language"))
        result.fields = {
            key: value for key, value in record.items() if key not in ("captions", "captions_by_language")
        }
        return
    result.by_language, taken = languages_beside(record)
    record = {name: value for name, value in record.items() if name not in taken}
    if isinstance(every := record.get("captions"), list) and _is_same_text(
        result.captions, listed := texts_in(every)
    ):
        result.captions = listed
        record = {name: value for name, value in record.items() if name != "captions"}
    elif not result.captions and not result.by_language:
        conversations = [key for key in record if is_conversation(record[key])]
        values = [caption_value(record.get(key)).texts for key in (*CAPTION_NAMES[:10], *conversations)]
        result.captions = next((texts for texts in values if texts), [])
        if isinstance(code := record.get("language"), str) and is_code(code) and result.captions:
            result.by_language = {code: list(result.captions)}
    result.captions = result.captions or training_captions(result.by_language)
    result.fields = {key: value for key, value in record.items() if key not in ("caption", "captions")}


def _is_same_text(lines: list[str], listed: list[str]) -> bool:
    """Whether a list of captions holds the text of the .txt, line by line or as one caption."""
    return set(lines) <= set(listed) or lines in (
        [line.strip() for line in text.splitlines() if line.strip()] for text in listed
    )


def _read_label(label: str, result: SidecarTexts) -> None:
    is_number = re.fullmatch(r"-?\d{1,18}", label)
    result.fields.setdefault("cls", int(label) if is_number else label)
    if not result.captions and label and not is_number:
        result.captions = [label.replace("_", " ")]
