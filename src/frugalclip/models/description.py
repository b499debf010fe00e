"""`model.json`: architecture, preprocessing and origin of a model, beside its weights."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from frugalclip.core.checksums import RESTORE
from frugalclip.core.errors import ModelError, shortened
from frugalclip.core.stored import StoredRecord, read_object, typed

FORMAT = 3  # 3: checksums
DESCRIPTION, WEIGHTS, LEXICON = "model.json", "model.safetensors", "lexicon.json"
FILES = (DESCRIPTION, WEIGHTS, LEXICON, "tokenizer.json", "tokenizer_config.json")


class Description(StoredRecord):
    """The content of `model.json`."""

    format: Literal[3] = FORMAT
    kind: Literal["dual_encoder"]
    architecture: dict[str, Any]
    preprocess: dict[str, Any]
    tokenizer: str = Field(description="fingerprint")
    training_data: dict[str, Any] | None
    origin: dict[str, Any] | None = None
    fingerprint: str


def read_description(folder: Path) -> Description:
    """The description of a model on disk.

    Raises:
        ModelError: for a missing file, another format or a damaged one.
    """
    if not (folder / DESCRIPTION).is_file():
        raise ModelError(
            f"{folder} holds no {DESCRIPTION}; expected a run directory or a checkpoint that frugalclip "
            "wrote."
        )
    content = read_object(folder / DESCRIPTION, advice=RESTORE)
    if (found := content.get("format")) != FORMAT:
        is_newer = isinstance(found, int) and found > FORMAT
        tip = "update frugalclip" if is_newer else "train or import the model again with this version"
        raise ModelError(
            f"{folder / DESCRIPTION} has format {shortened(found, 40)}, this version reads {FORMAT}; {tip}."
        )
    return typed(content, Description, path=folder / DESCRIPTION, advice=RESTORE)
