"""Rows whose image and caption belong together, by the cosine of any MODEL.

Source: DataComp's `clip_score` filter, by fraction or threshold. Exactly the fraction stays, ties broken by
id; `rule: datacomp` keeps one row more and all that tie, as the authors' code does.

A model scores the pairs that it was trained on too high. The ledger of a run directory names these pairs.
With several models, each trained on other rows (folds), each row is scored by those that have not seen it.
"""

from collections.abc import Mapping, Sequence
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
from frugalclip.curation.thresholds import datacomp_threshold, highest_rows
from frugalclip.curation.trained_rows import knows_its_rows, trained_ids, who_scored
from frugalclip.features.embed import embed_manifest
from frugalclip.features.store import Store
from frugalclip.models import Model, load

_ROWS = 4096  # read at once


class Config(CurationStageConfig):
    model: Texts = Field(min_length=1, description="a MODEL, or several of which each saw other rows")
    fraction: float | None = Field(None, gt=0, le=1, description="of the rows that stays; DataComp: 0.3")
    threshold: float | None = Field(None, ge=-1, le=1, description="cosine; DataComp: 0.25 of a ViT-B/32")
    captions: Literal["best", "mean"] = Field("best", description="of a row with several captions")
    rule: Literal["exact", "datacomp"] = Field("exact", description="how many rows a fraction keeps")
    trained: Literal["refuse", "keep", "score"] = Field(
        "refuse", description="rows that every model was trained on: refused, kept without a score, or scored"
    )

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.fraction is None) == (self.threshold is None):
            raise ValueError("fraction and threshold are both given or both missing; give one")
        return self


@final
class ClipScore(CurationStage):
    Config = Config
    gives = ("clip_score",)
    value = "cosine of image and caption"
    reasons: ClassVar = {
        "low-score": "its image and caption are less alike than those of the rows that stay",
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
        verdict, config = Verdict(len(rows)), self.config
        scores, is_seen = self._scores(rows)
        verdict.values[:] = verdict.scores["clip_score"] = scores
        unknown = ~np.isfinite(scores)
        verdict.drop(unknown & ~is_seen, "no-score")
        threshold, stays = config.threshold, scores >= (config.threshold or 0)
        candidates = np.flatnonzero(~is_seen)
        if config.fraction is not None:
            found = scores[candidates]
            stays = np.zeros(len(rows), dtype=bool)
            draws = rows.draws("clip-score")[candidates]
            mask, threshold = highest_rows(found, config.fraction, draws=draws)
            if config.rule == "datacomp" and len(found):
                threshold = datacomp_threshold(np.nan_to_num(found, nan=-1), config.fraction)
                mask = found >= threshold
            stays[candidates] = mask
        verdict.drop(~stays & ~is_seen, "low-score", values=scores, threshold=threshold)
        verdict.notes = self._notes(int(is_seen.sum()))
        return verdict

    def _notes(self, seen: int) -> list[str]:
        notes = [f"{seen:,} rows were trained on by every model and stay without a score"] if seen else []
        known = [knows_its_rows(place) for place in self._places]
        if all(known) and self.config.trained == "score":
            notes.append("rows are scored by models that were trained on them, so their scores are too high")
        else:
            notes.append(who_scored(known))
        return notes

    def _scores(self, rows: StageRows) -> tuple[np.ndarray, np.ndarray]:
        """(rows,) mean cosine over the models that have not seen the row, and (rows,) whether all have."""
        every, seen = [], []
        for model, place in zip(self._models, self._places, strict=True):
            # other rows, or captions that a stage has written since, have a store of their own
            folder = rows.services.store_folder(f"clip-{model.fingerprint[:16]}-{rows.manifest.digest()}")
            store = embed_manifest(model, rows.manifest, folder, dtype="float32").store
            every.append(cosines(store, rows.manifest.ids, captions=self.config.captions))
            trained = trained_ids(place)
            seen.append(np.array([id in trained for id in rows.manifest.ids], dtype=bool))
        scores, is_seen = np.stack(every), np.stack(seen)
        if self.config.trained == "score":
            is_seen[:] = False
        by_all = np.asarray(is_seen.all(axis=0))
        if by_all.any() and self.config.trained == "refuse":
            raise DataError(
                f"{int(by_all.sum()):,} of {len(rows):,} rows were trained on by every model of the stage "
                f"(such as {rows.manifest.ids[int(np.argmax(by_all))]}), so their scores would be too high; "
                "give models of other folds, or set trained: keep or trained: score."
            )
        mean = np.where(is_seen, 0.0, scores).sum(axis=0) / np.maximum((~is_seen).sum(axis=0), 1)
        return np.where(by_all, np.nan, mean), by_all


def cosines(store: Store, ids: Sequence[str], *, captions: Literal["best", "mean"]) -> np.ndarray:
    """(rows,) float64 cosine of each row's image with its captions; NaN without an image or a caption."""
    result = np.full(len(ids), np.nan)
    if "text" not in store.head.summary:
        return result
    every = store.rows_of(ids)
    for start in range(0, len(every), _ROWS):
        rows = every[start : start + _ROWS]
        images = store.vectors("image", rows, fill=0.0).double().numpy()  # (rows, dim)
        texts = store.vectors("text", rows)
        counts = np.diff(texts.offsets)
        owner = np.repeat(np.arange(len(rows)), counts)
        values = (images[owner] * texts.values.double().numpy()).sum(axis=1)
        has_both = (counts > 0) & (store.counts("image")[rows] > 0)
        if captions == "mean":
            pooled = np.bincount(owner, values, minlength=len(rows)) / np.maximum(counts, 1)
        else:
            pooled = np.full(len(rows), -np.inf)
            np.maximum.at(pooled, owner, values)
        result[start : start + _ROWS] = np.where(has_both, pooled, np.nan)
    return result
