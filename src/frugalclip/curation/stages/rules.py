"""Basic rules over sizes, shapes, captions and pixels; each row by itself.

Source: the basic filter of DataComp (`baselines/apply_filter.py`: words by white space, characters, shorter
side, aspect) without its language, which is a stage of its own, and one-pass rules of cleanvision (blank,
dark, bright). A row with several captions is kept for its longest one.
"""

from typing import ClassVar, final

import numpy as np
from pydantic import Field

from frugalclip.curation.base import CurationStage, CurationStageConfig, StageNeeds, StageRows, Verdict

_IMAGE_RULES = ("min_side", "max_aspect", "min_contrast", "min_brightness", "max_brightness")


class Config(CurationStageConfig):
    min_words: int | None = Field(None, ge=0, description="by white space; DataComp: 3")
    max_words: int | None = Field(None, ge=1, description="of the shortest caption")
    min_characters: int | None = Field(None, ge=0, description="DataComp: 6")
    min_side: int | None = Field(None, ge=1, description="pixels of the shorter side; DataComp: 200")
    max_aspect: float | None = Field(None, ge=1, description="longer side by the shorter; DataComp: 3")
    min_contrast: int | None = Field(
        None, ge=0, le=255, description="largest difference of two pixels in one colour; less is blank"
    )
    min_brightness: float | None = Field(None, ge=0, le=255, description="mean luma; less is dark")
    max_brightness: float | None = Field(None, ge=0, le=255, description="mean luma; more is bright")


@final
class Rules(CurationStage):
    Config = Config
    value = "what the rule measures"
    reasons: ClassVar = {
        "few-words": "its longest caption has too few words",
        "many-words": "its shortest caption has too many words",
        "few-characters": "its longest caption has too few characters",
        "small": "its shorter side has too few pixels",
        "odd-aspect": "it is too long for its width, or too wide",
        "blank": "it is of one colour",
        "dark": "it is nearly black",
        "bright": "it is nearly white",
    }

    def needs(self) -> StageNeeds:
        return StageNeeds(images=any(getattr(self.config, name) is not None for name in _IMAGE_RULES))

    def decide(self, rows: StageRows) -> Verdict:
        verdict, config = Verdict(len(rows)), self.config
        captions = rows.manifest.captions()
        words = [[len(text.split()) for text in texts] for texts in captions]
        most = np.array([max(counts, default=0) for counts in words])
        least = np.array([min(counts, default=0) for counts in words])
        characters = np.array([max(map(len, texts), default=0) for texts in captions])
        _below(verdict, most, config.min_words, "few-words")
        _above(verdict, least, config.max_words, "many-words")
        _below(verdict, characters, config.min_characters, "few-characters")
        if self.needs().images:
            self._of_images(verdict, rows)
        return verdict

    def _of_images(self, verdict: Verdict, rows: StageRows) -> None:
        config, images = self.config, rows.images
        sides = np.stack([images.widths, images.heights]).astype(np.float64)
        shorter, longer = sides.min(0), sides.max(0)
        brightness = images.column("brightness")
        _below(verdict, shorter, config.min_side, "small")
        _above(verdict, longer / np.maximum(shorter, 1), config.max_aspect, "odd-aspect")
        _below(verdict, images.column("contrast"), config.min_contrast, "blank")
        _below(verdict, brightness, config.min_brightness, "dark")
        _above(verdict, brightness, config.max_brightness, "bright")


def _below(verdict: Verdict, values: np.ndarray, threshold: float | None, reason: str) -> None:
    if threshold is not None:
        verdict.drop(values < threshold, reason, values=values, threshold=threshold)


def _above(verdict: Verdict, values: np.ndarray, threshold: float | None, reason: str) -> None:
    if threshold is not None:
        verdict.drop(values > threshold, reason, values=values, threshold=threshold)
