"""Find captions by image and images by caption.

An image may have several captions and a caption several images: equal captions are one query, and every image
with that caption is right. Scoring row i only against row i (as open_clip's validation does) counts those as
wrong.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.core.numerics import top_k
from frugalclip.core.users_text import command_line
from frugalclip.data.manifest import Manifest
from frugalclip.data.words import normalise
from frugalclip.evaluation.baselines import Baselines, Scorer
from frugalclip.evaluation.encoding import DataEncoder, encode_texts, image_features
from frugalclip.evaluation.groups import find_groups
from frugalclip.evaluation.metrics import in_unit
from frugalclip.evaluation.ranking import Ranks, Scores, chance_ranks, cosine_scores, padded, rank_positives
from frugalclip.evaluation.results import EvaluatedRows, with_provenance
from frugalclip.evaluation.robustness import evaluate_robustness
from frugalclip.evaluation.side_by_side import outcome_of
from frugalclip.evaluation.statistics import Statistic, group_codes, intervals, mean_of, median_of
from frugalclip.functional import unit

DEPTHS = (1, 5, 10)


@dataclass(frozen=True)
class RetrievalTask:
    """Everything about a retrieval evaluation that does not depend on the model."""

    texts: list[str]  # (texts,) distinct captions
    rows: np.ndarray  # (images,) int64 rows of the manifest that take part
    ids: list[str]  # (images,)
    pairs: Tensor  # (pairs, 2) int64 image, text: every pair that is right
    image_groups: np.ndarray  # (images,) int64 what the bootstrap draws
    text_groups: np.ndarray  # (texts,) int64; a caption belongs to its first image
    about: dict[str, Any]

    def positives(self) -> tuple[Tensor, Tensor]:
        """(images, most) right texts and (texts, most) right images, -1 for none."""
        texts: list[list[int]] = [[] for _ in self.rows]
        images: list[list[int]] = [[] for _ in self.texts]
        for image, text in self.pairs.tolist():
            texts[image].append(text)
            images[text].append(image)
        return padded(texts), padded(images)

    def metrics(self, image_features: Tensor, text_features: Tensor) -> dict[str, float]:
        """i2t_r1, i2t_r5, i2t_r10, t2i_… in percent, and the median ranks.

        Args:
            image_features: (images, dim) features of `rows`, any length.
            text_features: (texts, dim) features of `texts`, any length.
        """
        images, texts = unit(image_features), unit(text_features)
        return self.metrics_of_scores(cosine_scores(images, texts), cosine_scores(texts, images))

    def metrics_of_scores(self, by_image: Scores, by_text: Scores) -> dict[str, float]:
        """The same from scores: `by_image` gives (rows, texts), `by_text` gives (rows, images)."""
        of_images, of_texts = self.positives()
        return _metrics(
            {"i2t": rank_positives(by_image, of_images), "t2i": rank_positives(by_text, of_texts)}
        )

    def metrics_of_baseline(self, name: str, scorer: Scorer, readable: np.ndarray) -> dict[str, float]:
        """The metrics of a baseline.

        Args:
            name: of the baseline.
            scorer: gives the scores of candidate texts.
            readable: (readable,) int64 images of this task that could be described.
        """
        task = self if len(readable) == len(self.rows) else self.only(readable)
        scores = scorer([[text] for text in task.texts])
        parts = torch.arange(len(readable)).split(1024)
        matrix = torch.cat([scores(rows) for rows in parts])  # (images, texts)
        return task.metrics_of_scores(lambda rows: matrix[rows], lambda rows: matrix.T[rows])

    def chance(self) -> dict[str, float]:
        """What guessing gives, exactly; the median rank is the median over queries of the expected rank."""
        of_images, of_texts = self.positives()
        return _metrics(
            {"i2t": chance_ranks(of_images, len(self.texts)), "t2i": chance_ranks(of_texts, len(self.rows))}
        )

    def only(self, images: np.ndarray) -> "RetrievalTask":
        """The same task with some of its images; captions that lose all their images go too."""
        image_place = np.full(len(self.rows), -1)
        image_place[images] = np.arange(len(images))
        pairs = self.pairs.numpy()[image_place[self.pairs[:, 0].numpy()] >= 0]
        texts = np.unique(pairs[:, 1])
        text_place = np.full(len(self.texts), -1)
        text_place[texts] = np.arange(len(texts))
        kept = np.stack([image_place[pairs[:, 0]], text_place[pairs[:, 1]]], axis=1)
        groups = group_codes(self.image_groups[images], len(images))
        return RetrievalTask(
            texts=[self.texts[i] for i in texts],
            rows=self.rows[images],
            ids=[self.ids[i] for i in images],
            pairs=torch.from_numpy(kept),
            image_groups=groups,
            text_groups=groups[_first_image(kept, len(texts))],
            about=self.about,
        )

    @property
    def group_count(self) -> int:
        """How many groups the bootstrap draws from."""
        return int(max(self.image_groups.max(initial=-1), self.text_groups.max(initial=-1))) + 1

    def statistics(self, image_features: Tensor, text_features: Tensor) -> dict[str, Statistic]:
        """The metrics as functions of how often each group was drawn; recalls are shares of one.

        Args:
            image_features: (images, dim) features of `rows`, any length.
            text_features: (texts, dim) features of `texts`, any length.
        """
        images, texts = unit(image_features), unit(text_features)
        of_images, of_texts = self.positives()
        ranks = {
            "i2t": rank_positives(cosine_scores(images, texts), of_images),
            "t2i": rank_positives(cosine_scores(texts, images), of_texts),
        }
        return _statistics(ranks, {"i2t": self.image_groups, "t2i": self.text_groups})

    def result(
        self, image_features: Tensor, text_features: Tensor, *, draws: int = 1000, seed: int = 0
    ) -> dict[str, Any]:
        """Metrics with intervals, chance and examples.

        Args:
            image_features: (images, dim).
            text_features: (texts, dim).
            draws: bootstrap draws; 0 leaves intervals out.
            seed: of the bootstrap and of the choice of examples.
        """
        images, texts = unit(image_features), unit(text_features)
        by_image, by_text = cosine_scores(images, texts), cosine_scores(texts, images)
        of_images, of_texts = self.positives()
        ranks = {"i2t": rank_positives(by_image, of_images), "t2i": rank_positives(by_text, of_texts)}
        statistics = _statistics(ranks, {"i2t": self.image_groups, "t2i": self.text_groups}) if draws else {}
        return {
            "metrics": _metrics(ranks),
            "interval": {
                name: [in_unit(name, low), in_unit(name, high)]
                for name, (low, high) in intervals(
                    statistics, groups=self.group_count, draws=draws, seed=seed
                ).items()
            },
            "chance": self.chance(),
            "samples": len(self.rows),
            **self.about,
            "texts": len(self.texts),
            "pairs": len(self.pairs),
            "bootstrap": {"draws": draws, "seed": seed, "level": 95, "groups": self.group_count},
            "examples": {
                "t2i": self._found_images(by_text, of_texts, ranks["t2i"], seed=seed),
                "i2t": self._found_texts(by_image, of_images, ranks["i2t"], seed=seed),
            },
        }

    def _found_images(
        self, by_text: Scores, positives: Tensor, ranks: Ranks, *, seed: int
    ) -> list[dict[str, Any]]:
        chosen = _chosen(ranks, seed)
        scores, places = top_k(by_text(chosen).cpu(), 5)
        return [
            {
                "text": self.texts[query],
                "right": [self._image(i) for i in positives[query].tolist() if i >= 0][:5],
                "rank": float(ranks.expected()[query]),
                "found": [
                    {**self._image(i), "score": score, "is_right": i in positives[query].tolist()}
                    for i, score in zip(places[n].tolist(), scores[n].tolist(), strict=True)
                ],
            }
            for n, query in enumerate(chosen.tolist())
        ]

    def _found_texts(
        self, by_image: Scores, positives: Tensor, ranks: Ranks, *, seed: int
    ) -> list[dict[str, Any]]:
        chosen = _chosen(ranks, seed)
        scores, places = top_k(by_image(chosen).cpu(), 5)
        return [
            {
                **self._image(query),
                "right": [self.texts[i] for i in positives[query].tolist() if i >= 0],
                "rank": float(ranks.expected()[query]),
                "found": [
                    {"text": self.texts[i], "score": score, "is_right": i in positives[query].tolist()}
                    for i, score in zip(places[n].tolist(), scores[n].tolist(), strict=True)
                ],
            }
            for n, query in enumerate(chosen.tolist())
        ]

    def _image(self, place: int) -> dict[str, Any]:
        return {"id": self.ids[place], "row": int(self.rows[place])}


def retrieval_task(
    manifest: Manifest, *, language: str | None = None, group: str | None = None
) -> RetrievalTask:
    """Read images and captions of a data set.

    Args:
        manifest: the rows to evaluate on, all against all.
        language: captions of this language only; rows without it take no part.
        group: field whose equal values are drawn together by the bootstrap; default see `groups.find_groups`,
            else an image and its captions.

    Raises:
        DataError: if the field is unknown or no row has a caption.
    """
    captions = manifest.captions(language=language)
    rows = np.array(
        [i for i, texts in enumerate(captions) if any(text.strip() for text in texts)], dtype=np.int64
    )
    if not len(rows):
        wanted = f" in {language}" if language else ""
        raise DataError(
            f"none of the {len(manifest)} rows of {manifest.name} has a caption{wanted}; "
            f"see: {command_line('data', 'stats', manifest.name)}"
        )
    place: dict[str, int] = {}
    texts: list[str] = []
    pairs: list[tuple[int, int]] = []
    for image, row in enumerate(rows):
        for text in dict.fromkeys(normalise(text) for text in captions[row] if text.strip()):
            if text not in place:
                place[text] = len(texts)
                texts.append(next(t for t in captions[row] if normalise(t) == text))
            pairs.append((image, place[text]))
    right = torch.tensor(pairs, dtype=torch.int64)
    groups = find_groups(manifest, group)
    image_groups = group_codes(groups.codes[rows] if groups.over else None, len(rows))
    ids = manifest.ids
    about = {
        "prompts": {"set": "plain", "templates": ["{}"]},
        "pool": f"all {len(texts)} distinct captions and all {len(rows)} images of the rows",
        "left_out": {
            "without a caption" + (f" in {language}" if language else ""): len(manifest) - len(rows)
        },
        "interval_over": groups.over or "images, with their captions",
        "interval_groups": groups.origin,
    }
    return RetrievalTask(
        texts,
        rows,
        [ids[i] for i in rows],
        right,
        image_groups,
        image_groups[_first_image(right.numpy(), len(texts))],
        about,
    )


def evaluate_retrieval(
    model: DataEncoder,
    manifest: Manifest,
    everything: Manifest | None = None,
    *,
    where: str | None = None,
    language: str | None = None,
    group: str | None = None,
    baselines: Baselines | None = None,
    with_robustness: bool = False,
    with_outcome: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Find captions by image and images by caption; arguments and result as `zeroshot.evaluate_zeroshot`."""
    task = retrieval_task(manifest, language=language, group=group)
    images, kept, faults = image_features(model, manifest, task.rows)
    task = task.only(kept) if faults else task
    texts = encode_texts(model, task.texts)
    result = task.result(images, texts, draws=draws, seed=seed)
    result["left_out"] = {**task.about["left_out"], **faults}
    if with_robustness:
        result["robustness"] = evaluate_robustness(
            task, model, manifest, images, texts, draws=draws, seed=seed
        )
    if with_outcome:
        hits = rank_positives(cosine_scores(unit(texts), unit(images)), task.positives()[1]).hits(1).numpy()
        result["outcome"] = outcome_of("t2i_r1", task.texts, hits, task.text_groups)
    measured = None
    if baselines is not None:
        spoken = language if language in baselines.training.languages else None
        names = baselines.training.captions(language=spoken)
        measured = baselines.measure(manifest.take(task.rows), names, task.metrics_of_baseline)
    return with_provenance("retrieval", result, model, EvaluatedRows.of(manifest, where), baselines=measured)


def _first_image(pairs: np.ndarray, texts: int) -> np.ndarray:
    """(texts,) the first image of each caption, from (pairs, 2) image and text."""
    first = np.full(texts, np.iinfo(np.int64).max)
    np.minimum.at(first, pairs[:, 1], pairs[:, 0])
    return first


def _metrics(ranks: dict[str, Ranks]) -> dict[str, float]:
    metrics = {f"{way}_r{k}": 100 * float(rank.hits(k).mean()) for way, rank in ranks.items() for k in DEPTHS}
    return metrics | {f"{way}_median_rank": float(rank.expected().median()) for way, rank in ranks.items()}


def _statistics(ranks: dict[str, Ranks], groups: dict[str, np.ndarray]) -> dict[str, Statistic]:
    statistics = {
        f"{way}_r{k}": mean_of(rank.hits(k).numpy(), groups[way])
        for way, rank in ranks.items()
        for k in DEPTHS
    }
    return statistics | {
        f"{way}_median_rank": median_of(rank.expected().numpy(), groups[way]) for way, rank in ranks.items()
    }


def _chosen(ranks: Ranks, seed: int, *, random: int = 8, worst: int = 4) -> Tensor:
    """Queries to show: some drawn at random, so that they are typical, then the worst of the rest."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(ranks)))
    drawn, rest = order[:random].sort().values, order[random:]
    return torch.cat(
        [drawn, rest[torch.sort(ranks.expected()[rest], descending=True, stable=True).indices[:worst]]]
    )
