"""Captions in the languages that are wanted, detected by py3langid, whose model is in its package.

Short captions are names, which belong to no language: they stay. DataComp and LAION use other detectors
(fastText's lid.176 and gcld3), which decide otherwise for one caption in a few.
"""

from functools import cache
from typing import Any, ClassVar, final

import numpy as np
from pydantic import Field, field_validator

from frugalclip.core.errors import require
from frugalclip.curation.base import CurationStage, CurationStageConfig, StageRows, Verdict


class Config(CurationStageConfig):
    keep: tuple[str, ...] = Field(min_length=1, description="codes, such as [en, de]")
    least_words: int = Field(3, ge=1, description="by white space; rows with shorter captions stay")

    @field_validator("keep", mode="before")
    @classmethod
    def _is_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


@final
class Language(CurationStage):
    Config = Config
    gives = ("detected_language",)
    reasons: ClassVar = {"other-language": "its longest caption is in another language"}

    def decide(self, rows: StageRows) -> Verdict:
        verdict = Verdict(len(rows))
        found = [self._language(max(texts, key=len, default="")) for texts in rows.manifest.captions()]
        languages = np.array([*found, None], dtype=object)[:-1]
        verdict.drop(~np.isin(found_or_none(languages), [*self.config.keep, ""]), "other-language")
        verdict.scores["detected_language"] = languages
        return verdict

    def _language(self, text: str) -> str | None:
        return _detect(text) if len(text.split()) >= self.config.least_words else None


def found_or_none(languages: np.ndarray) -> np.ndarray:
    """(rows,) text, empty where no language was detected."""
    return np.array([language or "" for language in languages], dtype=str)


@cache
def _detector() -> Any:
    return require("py3langid", extra="curate", purpose="detecting languages")


def _detect(text: str) -> str:
    return str(_detector().classify(text)[0])
