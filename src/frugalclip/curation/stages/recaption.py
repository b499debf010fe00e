"""Captions that a trained captioner writes, by beam search; see `curation.recaption`.

Source: TL;DR (arXiv 2305.20087) writes with BLIP, three beams. Here it is a run of `tldr-captioner`, or of
any recipe with the objective `captioning`.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, final

from pydantic import Field

from frugalclip.core.errors import ModelError
from frugalclip.curation.base import StageRows, plan_path
from frugalclip.curation.captioner import BeamSettings, Captioner, read_captioner
from frugalclip.curation.recaption import RecaptionConfig, RecaptionStage

_BATCH = 64  # images whose captions are searched for at a time


class Config(RecaptionConfig):
    model: str = Field(description="a run of tldr-captioner, or another one with the objective captioning")
    beams: int = Field(3, ge=1, description="BLIP: 3")
    longest: int = Field(30, ge=1, description="tokens of a caption; BLIP: 30")
    length_power: float = Field(
        1.0, ge=0, description="of the length that the sum of log probabilities is divided by"
    )


@final
class Recaption(RecaptionStage):
    Config = Config
    source, gives = "captioner", ("caption_captioner",)

    @cached_property
    def _captioner(self) -> Captioner:
        found = read_captioner(plan_path(self.config.model, self.folder))
        if found is None:
            raise ModelError(
                f"{self.config.model} is no run of a captioner; train one with: frugalclip train "
                "tldr-captioner data=PATH --out RUN."
            )
        return found

    def describe(self) -> Mapping[str, Any]:
        return {"model_content": self._captioner.fingerprint}

    def write(self, rows: StageRows) -> Sequence[str | None]:
        config = self.config
        written: list[str | None] = [None] * len(rows)
        settings = BeamSettings(config.beams, config.longest, config.length_power)
        faults: list[tuple[int, str]] = []  # images that cannot be read get no caption
        for places, images in self._captioner.model.image_inputs(rows.manifest, batch=_BATCH, faults=faults):
            for place, text in zip(places, self._captioner.write(images, settings), strict=True):
                written[place] = text
        return written
