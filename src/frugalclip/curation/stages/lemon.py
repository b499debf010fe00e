"""Rows whose caption does not belong to their image: LEMoN's score, from the pair and its neighbours.

Source: LEMoN, see `auditing.noise`. With a MODEL, its cosines are used as they are, and rows that it was
trained on are refused. Without one, hand-made features and words are related by heads in closed form, each
fitted without the pair that it scores (cross-fitted) and without those that fit worst. The score is then the
share of pairs dealt at random that are more alike: neighbours among such features tell less.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Self, final

import numpy as np
from pydantic import Field, model_validator

from frugalclip.auditing.pair_features import PairFeatures, model_features, plain_features
from frugalclip.auditing.suspicious_pairs import pair_scores
from frugalclip.auditing.words import WordForms
from frugalclip.core.devices import pick_device
from frugalclip.core.errors import DataError
from frugalclip.curation.base import CurationStage, CurationStageConfig, StageRows, Verdict, plan_path
from frugalclip.curation.thresholds import highest_rows
from frugalclip.curation.trained_rows import knows_its_rows, trained_ids, who_scored
from frugalclip.models import Model, load


class Config(CurationStageConfig):
    model: str | None = Field(None, description="a MODEL that saw none of the rows; none: hand-made features")
    language: str = Field("en", description="of the captions, for hand-made features")
    fraction: float | None = Field(None, gt=0, le=1, description="of the rows that stays")
    threshold: float | None = Field(None, ge=0, description="score above which a row goes")

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.fraction is None) == (self.threshold is None):
            raise ValueError("fraction and threshold are both given or both missing; give one")
        return self


@final
class Lemon(CurationStage):
    Config = Config
    gives = ("lemon", "pair_cosine")
    value = "suspicion of the pair"
    reasons: ClassVar = {
        "suspicious-pair": "its image and caption, and its neighbours', are less alike than in other rows",
        "no-score": "it has no caption, or no image that can be read",
    }

    @property
    def _place(self) -> str | None:
        """The model, as a path from the plan's folder where there is one."""
        return None if self.config.model is None else plan_path(self.config.model, self.folder)

    @cached_property
    def _model(self) -> Model | None:
        return None if self._place is None else load(self._place, device=pick_device("auto"))

    def describe(self) -> Mapping[str, Any]:
        return {} if self._model is None else {"model_content": self._model.fingerprint}

    def decide(self, rows: StageRows) -> Verdict:
        verdict, config = Verdict(len(rows)), self.config
        features = self._features(rows)
        captions = [" . ".join(texts) for texts in rows.manifest.take(features.rows).captions()]
        found = pair_scores(features, captions, seed=rows.seed)
        scores, cosines = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        scores[features.rows], cosines[features.rows] = found.suspicion, found.cosines
        verdict.values[:] = verdict.scores["lemon"] = scores
        verdict.scores["pair_cosine"] = cosines
        verdict.drop(~np.isfinite(scores), "no-score")
        threshold, stays = config.threshold, scores <= (config.threshold or 0)
        if config.fraction is not None:
            stays, least = highest_rows(-scores, config.fraction, draws=rows.draws("lemon"))
            threshold = -least
        verdict.drop(~stays, "suspicious-pair", values=scores, threshold=threshold)
        verdict.notes = [who_scored([] if self._place is None else [knows_its_rows(self._place)])]
        return verdict

    def _features(self, rows: StageRows) -> PairFeatures:
        if self._place is None or self._model is None:
            return plain_features(rows.manifest, WordForms(self.config.language))
        seen = trained_ids(self._place)
        if both := [id for id in rows.manifest.ids if id in seen]:
            raise DataError(
                f"{len(both):,} of {len(rows):,} rows were trained on by {self.config.model} (such as "
                f"{both[0]}), so their pairs would look right; give a model of other rows, or none."
            )
        return model_features(self._model, rows.manifest)
