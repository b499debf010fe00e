"""Captions of the words that describe an image most: those of captions of similar images (`words` models).

See `curation.recaption`. A model that was trained on these rows knows their own captions.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, final

from pydantic import Field

from frugalclip.core.devices import pick_device
from frugalclip.curation.base import StageRows, plan_path
from frugalclip.curation.recaption import RecaptionConfig, RecaptionStage
from frugalclip.models import Model, load

_ROWS = 4096  # encoded at a time


class Config(RecaptionConfig):
    model: str = Field(
        description="a model whose embedding is one of words, such as a run of the recipe words"
    )
    words: int = Field(5, ge=1, description="of a caption, the main ones first")


@final
class RecaptionWords(RecaptionStage):
    Config = Config
    source, gives = "words", ("caption_words",)

    @cached_property
    def _model(self) -> Model:
        return load(plan_path(self.config.model, self.folder), device=pick_device("auto"))

    def describe(self) -> Mapping[str, Any]:
        return {"model_content": self._model.fingerprint}

    def write(self, rows: StageRows) -> Sequence[str | None]:
        written: list[str | None] = [None] * len(rows)
        for start in range(0, len(rows), _ROWS):
            found = self._model.image_features(
                rows.manifest.take(range(start, min(start + _ROWS, len(rows))))
            )
            words = self._model.words(found.features, top=self.config.words)
            for place, described in zip(found.rows.tolist(), words, strict=True):
                written[start + place] = ", ".join(word for word, _ in described)
        return written
