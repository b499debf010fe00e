"""Prompts for a frozen language model: words around the caption, then facets that each end before one word.

Prompts are data (`prompts.yaml` beside this file, or a user's YAML file), because which one was used is part
of what a vector means. The clean-up of captions follows FLAME's code (`multiprompteol_embeddings.py`), string
for string, defects of style included: `wow!` gets a full stop.
"""

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from frugalclip.core.config import Settings, validated
from frugalclip.core.errors import ModelError, known_names
from frugalclip.core.paths import user_path
from frugalclip.core.yaml_text import read_yaml

CLEANING_VERSION = 1  # goes into fingerprints; raise it when `clean_caption` changes
SLOT = "{}"


class Prompt(Settings):
    """A template with one slot for the caption, and facets about it."""

    about: str = Field("", description="for people; not part of what a vector depends on")
    template: str = Field(description="opening words, {} for the caption, closing words")
    facets: tuple[str, ...] = Field(
        min_length=1,
        description="words after the template, one vector each; each ends where one word is expected",
    )

    @model_validator(mode="after")
    def _is_readable(self) -> "Prompt":
        if self.template.count(SLOT) != 1:
            raise ValueError(
                f"template holds {self.template.count(SLOT)} slots, expected {SLOT} once, where the caption "
                "goes"
            )
        if self.template != self.template.lstrip():
            raise ValueError("template begins with white space, which the model would not see; remove it")
        for facet in self.facets:
            if not facet or facet != facet.rstrip():
                raise ValueError(
                    f"facet {facet!r} is empty or ends with white space; end it with what a word follows, "
                    "such as a colon"
                )
        return self

    @property
    def opening(self) -> str:
        """The words before the caption."""
        return self.template.partition(SLOT)[0]

    @property
    def closing(self) -> str:
        """The words between the caption and the facets."""
        return self.template.partition(SLOT)[2]

    def filled(self, caption: str) -> list[str]:
        """The whole text of each facet of a caption, as if it were alone."""
        return [fill_template(self.template + facet, caption) for facet in self.facets]


def clean_caption(text: str) -> str:
    """A caption with the end of a sentence, and without double quotes, which mark its end in the prompt.

    Args:
        text: any caption; an empty one stays empty.
    """
    if text and text[-1] not in ".?\"'":
        text += "."
    text = text.replace('"', "'")
    return text[:-1] + "." if text.endswith("?") else text


def fill_template(template: str, caption: str) -> str:
    """A template with the cleaned caption in its slot, stripped; braces in the caption stay."""
    return template.replace(SLOT, clean_caption(caption), 1).strip()


@cache
def _known() -> dict[str, dict[str, Any]]:
    return read_yaml(Path(__file__).with_name("prompts.yaml"))


def prompt_names() -> list[str]:
    """Names of the prompts that come with the package."""
    return sorted(_known())


def find_prompt(name: str | Path) -> Prompt:
    """A prompt by name, or from a YAML file with `template` and `facets`.

    Args:
        name: a prompt that comes with the package, or a path.

    Raises:
        ModelError: no such prompt or file, or a file that does not describe a prompt.
    """
    if str(name) in _known():
        return validated(Prompt, _known()[str(name)], where=str(name), error=ModelError)
    path = user_path(name)
    if not path.is_file():
        raise ModelError(
            f"'{name}' is neither a prompt for language models nor a file; "
            f"{known_names(str(name), prompt_names())}"
        )
    return validated(Prompt, read_yaml(path), where=str(path), error=ModelError)
