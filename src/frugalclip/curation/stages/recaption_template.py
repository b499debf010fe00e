"""Captions from the fields of a row by a template, such as `a {colour} {label}`; see `curation.recaption`.

A row without a value in one of the fields gets none.
"""

from collections.abc import Sequence
from string import Formatter
from typing import Any, final

from pydantic import Field, field_validator

from frugalclip.curation.base import StageRows
from frugalclip.curation.recaption import RecaptionConfig, RecaptionStage


class Config(RecaptionConfig):
    template: str = Field(description="text with names of fields in braces")

    @field_validator("template")
    @classmethod
    def _names_fields(cls, value: str) -> str:
        try:
            names = _fields(value)
        except ValueError as error:
            raise ValueError(
                f"{error}; write names of fields in braces, such as 'a {{colour}} {{label}}'"
            ) from None
        if not names or not all(names):
            raise ValueError("it names no field; write 'a photo of a {label}', with a field of the data")
        return value


def _fields(template: str) -> list[str]:
    """Names of the fields of a template."""
    return [name for _, name, _, _ in Formatter().parse(template) if name is not None]


@final
class RecaptionTemplate(RecaptionStage):
    Config = Config
    source, gives = "template", ("caption_template",)

    def write(self, rows: StageRows) -> Sequence[str | None]:
        template = self.config.template
        columns = {name: rows.manifest.field(name) for name in _fields(template)}
        values = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return [None if None in row.values() else _filled(template, row) for row in values]


def _filled(template: str, values: dict[str, Any]) -> str:
    """The template with the values of a row; lists are joined by commas."""
    pieces = []
    for text, name, _, _ in Formatter().parse(template):
        value = "" if name is None else values[name]
        pieces += [text, ", ".join(map(str, value)) if isinstance(value, list) else str(value)]
    return "".join(pieces)
