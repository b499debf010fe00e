"""Rows whose image and caption belong together, by the cosine of any MODEL.

Source: DataComp's `clip_score` filter, by fraction or threshold. Exactly the fraction stays, ties broken by
id; `rule: datacomp` keeps one row more and all that tie, as the authors' code does.

A model scores the pairs that it was trained on too high. The ledger of a run directory names these pairs.
With several models, each trained on other rows (folds), each row is scored by those that have not seen it.
`trained: cross_fit` fits heads over the model's towers instead, none of which sees the rows that it scores.

Writing in a picture that the caption repeats makes a pair look good and teaches reading. T-MARS (arXiv
2307.03132) scores pictures with the writing masked. Mirroring it is the cheap stand-in: nobody reads mirrored
text, and most pictures mean the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Self, final

import numpy as np
from pydantic import Field, model_validator

from frugalclip.core.devices import pick_device
from frugalclip.core.errors import DataError
from frugalclip.curation.base import (
    CurationStage,
    CurationStageConfig,
    StageRows,
    Texts,
    Verdict,
    plan_path,
)
from frugalclip.curation.pair_cosines import (
    MIRRORED,
    cosines,
    has_frozen_towers,
    head_cosines,
    mirrored_views,
)
from frugalclip.curation.thresholds import datacomp_threshold, highest_rows
from frugalclip.curation.trained_rows import knows_its_rows, trained_ids, who_scored
from frugalclip.features.embed import embed_manifest
from frugalclip.models import Model, load

_HEADS = "rows are scored by heads over the towers, none of which was fitted to the row (cross-fitted)"
_TRAINED_TOWERS = (
    "the towers were trained on these rows, which the heads cannot undo, so scores may be too high; "
    "frozen towers, or models of other rows, are fair"
)


class Config(CurationStageConfig):
    model: Texts = Field(min_length=1, description="a MODEL, or several of which each saw other rows")
    fraction: float | None = Field(None, gt=0, le=1, description="of the rows that stays; DataComp: 0.3")
    threshold: float | None = Field(None, ge=-1, le=1, description="cosine; DataComp: 0.25 of a ViT-B/32")
    captions: Literal["best", "mean"] = Field("best", description="of a row with several captions")
    rule: Literal["exact", "datacomp"] = Field("exact", description="how many rows a fraction keeps")
    trained: Literal["refuse", "keep", "score", "cross_fit"] = Field(
        "refuse",
        description="rows that every model was trained on: refused, kept without a score, or scored; "
        "cross_fit: then all rows are scored by heads over the towers, fitted without the rows they score",
    )
    image: Literal["as_is", "mirrored"] = Field(
        "as_is", description="mirrored: the score is that of the mirrored image, whose writing is unreadable"
    )
    largest_fall: float | None = Field(
        None, ge=0, le=2, description="by which the cosine may fall when the image is mirrored"
    )
    sides: Texts = Field(
        ("left", "right"),
        description="words that make a caption depend on the direction; its fall drops no row",
    )

    @property
    def reads_mirrored(self) -> bool:
        """Whether mirrored images are encoded too."""
        return self.image == "mirrored" or self.largest_fall is not None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.fraction is None) == (self.threshold is None):
            raise ValueError("fraction and threshold are both given or both missing; give one")
        if self.reads_mirrored and self.trained == "cross_fit":
            raise ValueError(
                "cross-fitted heads score images as they are; leave out image and largest_fall, or give "
                "models of other rows in place of trained: cross_fit"
            )
        return self


@final
class ClipScore(CurationStage):
    Config = Config
    gives = ("clip_score",)
    value = "cosine of image and caption"
    reasons: ClassVar = {
        "low-score": "its image and caption are less alike than those of the rows that stay",
        "mirror-fall": "its image is much less like its caption when it is mirrored, so the caption may only "
        "repeat writing in the picture",
        "no-score": "it has no caption, or no image that can be read",
    }

    @cached_property
    def _models(self) -> list[Model]:
        device = pick_device("auto")
        return [load(place, device=device) for place in self._places]

    @property
    def _places(self) -> list[str]:
        """The models, as paths from the plan's folder where there is one."""
        return [plan_path(name, self.folder) for name in self.config.model]

    def describe(self) -> Mapping[str, Any]:
        return {"model_content": [model.fingerprint for model in self._models]}

    def decide(self, rows: StageRows) -> Verdict:
        verdict = Verdict(len(rows))
        found = self._scores(rows)
        scores, is_seen = found.scores, found.is_seen
        verdict.values[:] = verdict.scores["clip_score"] = scores
        verdict.drop(~np.isfinite(scores) & ~is_seen, "no-score")
        verdict.notes = self._notes(found)
        if found.falls is not None:
            verdict.scores["mirror_fall"] = found.falls
            self._drop_falls(rows, found.falls, verdict)
        stays, threshold = self._high(rows, scores, np.flatnonzero(~is_seen & verdict.is_kept))
        verdict.drop(~stays & ~is_seen, "low-score", values=scores, threshold=threshold)
        return verdict

    def _high(
        self, rows: StageRows, scores: np.ndarray, candidates: np.ndarray
    ) -> tuple[np.ndarray, float | None]:
        """(rows,) whether the score is high enough, and the threshold."""
        config = self.config
        if config.fraction is None:
            return scores >= config.threshold, config.threshold
        draws = rows.draws("clip-score")[candidates]
        mask, threshold = highest_rows(scores[candidates], config.fraction, draws=draws)
        if config.rule == "datacomp" and len(candidates):
            threshold = datacomp_threshold(np.nan_to_num(scores[candidates], nan=-1), config.fraction)
            mask = scores[candidates] >= threshold
        stays = np.zeros(len(rows), dtype=bool)
        stays[candidates] = mask
        return stays, threshold

    def _drop_falls(self, rows: StageRows, falls: np.ndarray, verdict: Verdict) -> None:
        """Drop rows whose score falls in the mirror, but those whose caption speaks of a side."""
        largest = self.config.largest_fall
        if largest is None:
            return
        words = "|".join(map(re.escape, self.config.sides))
        side = re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
        fell = falls > largest  # NaN is no fall
        captions = rows.manifest.take(np.flatnonzero(fell)).captions()
        is_sided = np.zeros(len(rows), dtype=bool)
        is_sided[fell] = [any(side.search(text) for text in own) for own in captions]
        verdict.drop(fell & ~is_sided, "mirror-fall", values=falls, threshold=largest)
        if is_sided.any():
            verdict.notes.append(
                f"{int(is_sided.sum()):,} captions fall in the mirror and name a side, so that drops none "
                "of them"
            )

    def _notes(self, found: "_Scores") -> list[str]:
        if found.by_heads is not None:
            return [_HEADS] if found.by_heads else [_HEADS, _TRAINED_TOWERS]
        seen = int(found.is_seen.sum())
        notes = [f"{seen:,} rows were trained on by every model and stay without a score"] if seen else []
        known = [knows_its_rows(place) for place in self._places]
        if all(known) and self.config.trained == "score":
            notes.append("rows are scored by models that were trained on them, so their scores are too high")
        else:
            notes.append(who_scored(known))
        return notes

    def _scores(self, rows: StageRows) -> "_Scores":
        """The mean over the models that have not seen a row."""
        trained = [trained_ids(place) for place in self._places]
        is_seen = np.array([[id in own for id in rows.manifest.ids] for own in trained], dtype=bool)
        if self.config.trained == "score":
            is_seen[:] = False
        by_all = np.asarray(is_seen.all(axis=0))
        if by_all.any() and self.config.trained == "refuse":
            raise DataError(
                f"{int(by_all.sum()):,} of {len(rows):,} rows were trained on by every model of the stage "
                f"(such as {rows.manifest.ids[int(np.argmax(by_all))]}), so their scores would be too high; "
                "give models of other folds, or set trained: cross_fit, keep or score."
            )
        if by_all.any() and self.config.trained == "cross_fit":
            scores = np.mean([head_cosines(model, rows) for model in self._models], axis=0)
            is_fair = all(map(has_frozen_towers, self._models))
            return _Scores(scores, np.zeros(len(rows), dtype=bool), by_heads=is_fair)
        return self._by_models(rows, is_seen)

    def _by_models(self, rows: StageRows, is_seen: np.ndarray) -> "_Scores":
        """Mean cosines of models, each of the rows that it has not seen.

        Args:
            rows: sorted by id.
            is_seen: (models, rows).
        """
        plain, mirrored = [], []
        for model in self._models:
            # other rows, or captions that a stage has written since, have a store of their own
            name = f"clip-{model.fingerprint[:16]}-{rows.manifest.digest()}"
            options = {}
            if self.config.reads_mirrored:
                name, options = f"{name}-mirrored", _mirror_options(model)
            folder = rows.services.store_folder(name)
            store = embed_manifest(model, rows.manifest, folder, dtype="float32", **options).store
            ids, captions = rows.manifest.ids, self.config.captions
            plain.append(cosines(store, ids, captions=captions))
            if self.config.reads_mirrored:
                mirrored.append(cosines(store, ids, captions=captions, view=MIRRORED))
        scores, falls = _mean_of_others(np.stack(plain), is_seen), None
        if mirrored:
            other = _mean_of_others(np.stack(mirrored), is_seen)
            falls = scores - other
            scores = other if self.config.image == "mirrored" else scores
        return _Scores(scores, np.asarray(is_seen.all(axis=0)), falls)


@dataclass(frozen=True)
class _Scores:
    """Scores of the rows, and who gave them."""

    scores: np.ndarray  # (rows,) NaN where there is none
    is_seen: np.ndarray  # (rows,) whether every model was trained on the row, which then has no score
    falls: np.ndarray | None = None  # (rows,) of the cosine when the image is mirrored
    by_heads: bool | None = None  # whether cross-fitted heads are over frozen towers; None without heads


def _mirror_options(model: Model) -> dict[str, Any]:
    return {"views": mirrored_views(model), "settings": {"views": "as is, mirrored"}}


def _mean_of_others(scores: np.ndarray, is_seen: np.ndarray) -> np.ndarray:
    """(rows,) mean over the models that have not seen the row, NaN where all have; from (models, rows)."""
    mean = np.where(is_seen, 0.0, scores).sum(axis=0) / np.maximum((~is_seen).sum(axis=0), 1)
    return np.where(is_seen.all(axis=0), np.nan, mean)
