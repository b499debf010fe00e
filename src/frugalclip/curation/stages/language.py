"""Captions in the languages that are wanted, detected by py3langid, whose model is in its package.

Short captions are names, which belong to no language: they stay. DataComp and LAION use other detectors
(fastText's lid.176 and gcld3), so some of their decisions differ; how many is not measured here.
"""

from functools import cache
from typing import Any, ClassVar, final

import numpy as np
from pydantic import Field

from frugalclip.core.errors import require
from frugalclip.curation.base import CurationStage, CurationStageConfig, StageRows, Texts, Verdict


class Config(CurationStageConfig):
    keep: Texts = Field(min_length=1, description="codes, such as [en, de]")
    least_words: int = Field(3, ge=1, description="by white space; rows with shorter captions stay")


@final
class Language(CurationStage):
    Config = Config
    gives = ("detected_language",)
    reasons: ClassVar = {"other-language": "its longest caption is in another language"}

    def decide(self, rows: StageRows) -> Verdict:
        verdict = Verdict(len(rows))
        found = [self._language(max(texts, key=len, default="")) for texts in rows.manifest.captions()]
        is_other = [language is not None and language not in self.config.keep for language in found]
        verdict.drop(np.array(is_other, dtype=bool), "other-language")
        verdict.scores["detected_language"] = np.array(found, dtype=object)
        return verdict

    def _language(self, text: str) -> str | None:
        return _detect(text) if len(text.split()) >= self.config.least_words else None


@cache
def _detector() -> Any:
    return require("py3langid", extra="curate", purpose="detecting languages")


def _detect(text: str) -> str:
    return str(_detector().classify(text)[0])
