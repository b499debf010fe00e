"""Put a model to a test on a data set, and write beside the number everything it depends on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.baselines import (
    MOST_DESCRIBED,
    MOST_ROWS,
    NEAR_DUPLICATE,
    VOTERS,
    Look,
    Neighbours,
    find_neighbours,
    thumbnails,
)
from frugalclip.evaluation.classes import row_names
from frugalclip.evaluation.descriptors import descriptors
from frugalclip.evaluation.ranking import TIE_RULE
from frugalclip.evaluation.retrieval import RetrievalTask, retrieval_task
from frugalclip.evaluation.robustness import altered_features, robustness
from frugalclip.evaluation.zeroshot import ZeroshotTask, zeroshot_task
from frugalclip.functional import unit

Layer = Literal["embedding", "pooled"]


class Encoder(Protocol):
    """What an evaluation asks of a model; `frugalclip.load` gives one."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def reads(self) -> Literal["both", "images"]: ...

    preprocess: Any

    def encode_text(self, texts: list[str], /) -> Tensor:
        """(texts, dim) features, of any length."""
        ...

    def encode_image(self, images: list[Any], /) -> Tensor:
        """(batch, dim) features of pictures."""
        ...

    def image_features(self, manifest: Manifest, /, *, layer: Layer = "embedding") -> Any:
        """A record of `features` (kept, dim), `rows` (kept,) of the manifest, and `faults`: (row, cause) of each that is lost."""
        ...


def evaluate_zeroshot(
    model: Encoder,
    manifest: Manifest,
    everything: Manifest | None = None,
    *,
    where: str | None = None,
    label_field: str | None = None,
    classes: Path | str | Sequence[str] | None = None,
    prompts: str | Path = "plain",
    language: str | None = None,
    group: str | None = None,
    training: Manifest | None = None,
    reference: Encoder | None = None,
    with_robustness: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Name the pictures of a data set.

    Args:
        model: encodes pictures and texts.
        manifest: the rows to judge.
        everything: the data set they were chosen from; default the rows themselves.
        where: the condition that chose them, to be stored.
        label_field: see `zeroshot_task`, as `classes`, `prompts`, `language` and `group`.
        classes: class file or lines.
        prompts: prompt set or file.
        language: language of the names.
        group: field of the bootstrap.
        training: what the model was trained on; given, the floors are measured too.
        reference: frozen encoder of the feature floor; default shapes and colours, see `descriptors`.
        with_robustness: also judge altered copies of the pictures, see `robustness`.
        draws: bootstrap draws.
        seed: of the bootstrap.

    Returns:
        The result described in `docs/formats.md`: what `evaluate --json` writes.
    """
    task = zeroshot_task(
        manifest,
        everything,
        label_field=label_field,
        classes=classes,
        prompts=prompts,
        language=language,
        group=group,
    )
    images, kept, faults = image_features(model, manifest, task.rows)
    texts = encode_texts(model, task.texts)
    result = task.result(images, texts, kept=kept, draws=draws, seed=seed)
    result["left_out"] = {**task.about["left_out"], **faults}
    if with_robustness:
        readable = task if len(kept) == len(task.rows) else task.only(kept)
        result["robustness"] = _robustness(readable, model, manifest, images, texts, draws=draws, seed=seed)
    baselines = {}
    if training is not None:
        names, _ = row_names(
            training,
            label_field=label_field if label_field in training.field_names else None,
            language=language,
        )
        baselines = _baselines(
            manifest.take(task.rows[kept]),
            training,
            names,
            reference,
            lambda n, p, s: _zeroshot_floor(task.only(kept), n, p, s),
        )
    return with_provenance("zeroshot", result, baselines, model, manifest, where)


def evaluate_retrieval(
    model: Encoder,
    manifest: Manifest,
    *,
    where: str | None = None,
    language: str | None = None,
    group: str | None = None,
    training: Manifest | None = None,
    reference: Encoder | None = None,
    with_robustness: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Find captions by picture and pictures by caption; arguments and result as `evaluate_zeroshot`."""
    task = retrieval_task(manifest, language=language, group=group)
    images, kept, faults = image_features(model, manifest, task.rows)
    task = task.only(kept) if faults else task
    texts = encode_texts(model, task.texts)
    result = task.result(images, texts, draws=draws, seed=seed)
    result["left_out"] = {**task.about["left_out"], **faults}
    if with_robustness:
        result["robustness"] = _robustness(task, model, manifest, images, texts, draws=draws, seed=seed)
    baselines = {}
    if training is not None:
        names = training.captions(language=language if language in training.languages else None)
        baselines = _baselines(
            manifest.take(task.rows),
            training,
            names,
            reference,
            lambda n, p, s: _retrieval_floor(task, n, p, s),
        )
    return with_provenance("retrieval", result, baselines, model, manifest, where)


def _robustness(
    task: ZeroshotTask | RetrievalTask,
    model: Encoder,
    manifest: Manifest,
    images: Tensor,
    texts: Tensor,
    *,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    altered = altered_features(model, manifest.take(task.rows))
    return robustness(
        task.statistics(images, texts),
        {name: task.statistics(features, texts) for name, features in altered.items()},
        groups=task.group_count,
        percent=lambda metric, value: value if metric.endswith("median_rank") else 100 * value,
        draws=draws,
        seed=seed,
    )


@torch.no_grad()
def encode_texts(model: Encoder, texts: list[str], *, batch: int = 512) -> Tensor:
    """(texts, dim) features on the CPU, `batch` texts at a time."""
    return torch.cat(
        [model.encode_text(texts[i : i + batch]).float().cpu() for i in range(0, len(texts), batch)]
    )


def image_features(
    model: Encoder, manifest: Manifest, rows: np.ndarray, *, layer: Layer = "embedding"
) -> tuple[Tensor, np.ndarray, dict[str, int]]:
    """Encode the pictures of some rows.

    Args:
        model: encodes pictures.
        manifest: the data set.
        rows: (samples,) int64 rows of it.
        layer: the joint embedding, or the tower's output before its projection.

    Returns:
        (kept, dim) features of those whose picture can be read, (kept,) their places among `rows`, and a count for each cause of a loss.
    """
    chosen = manifest.take(rows)
    found = (
        model.image_features(chosen) if layer == "embedding" else model.image_features(chosen, layer=layer)
    )
    kept = np.asarray(found.rows)
    if not len(kept):
        raise DataError(
            f"no picture of {manifest.name} could be read; run 'frugalclip data check {manifest.name}'."
        )
    causes = [str(fault[1]) for fault in found.faults]
    return found.features.float().cpu(), kept, {cause: causes.count(cause) for cause in sorted(set(causes))}


def looks(reference: Encoder | None = None) -> dict[str, Look]:
    """How the floors look at pictures: `pixel`, and `feature` by a frozen encoder or else by shape and colour."""

    def encoded(manifest: Manifest) -> tuple[Tensor, np.ndarray]:
        assert reference is not None
        features, kept, _ = image_features(reference, manifest, np.arange(len(manifest)))
        return unit(features), kept

    return {"pixel": thumbnails, "feature": descriptors if reference is None else encoded}


def looked_at_by(reference: Encoder | None) -> str:
    """What the feature floor sees, in words."""
    return (
        "shape and colour: oriented gradients and a colour histogram"
        if reference is None
        else f"frozen encoder {reference.fingerprint}"
    )


def _baselines(
    chosen: Manifest, training: Manifest, names: list[list[str]], reference: Encoder | None, measure: Any
) -> dict[str, Any]:
    """`pixel_nn_1`, `feature_nn_10` and so on with the metrics; `about`: the training pictures, and how many judged ones are nearly among them."""
    if not any(names):
        return {}
    found: dict[str, Any] = {}
    about: dict[str, Any] = {"training": training.name, "training_hash": training.fingerprint()}
    for kind, look in looks(reference).items():
        neighbours = find_neighbours(
            training, names, look, most=MOST_ROWS if kind == "pixel" else MOST_DESCRIBED
        )
        features, readable = look(chosen)
        places, differences = neighbours.nearest(features)
        found |= {f"{kind}_nn_{k}": measure(neighbours, places[:, :k], readable) for k in VOTERS}
        if kind == "pixel":
            about |= {"training_rows": len(neighbours.names), "training_rows_named": neighbours.of}
            about["near_duplicates"] = int((differences < NEAR_DUPLICATE).sum())
        else:
            about |= {"features": looked_at_by(reference), "feature_rows": len(neighbours.names)}
    return found | {"about": about}


def _zeroshot_floor(
    task: ZeroshotTask, neighbours: Neighbours, places: Tensor, readable: np.ndarray
) -> dict[str, float]:
    return task.baseline(neighbours.scores(places, task.synonyms), readable)


def _retrieval_floor(
    task: RetrievalTask, neighbours: Neighbours, places: Tensor, readable: np.ndarray
) -> dict[str, float]:
    task = task if len(readable) == len(task.rows) else task.only(readable)
    scores = neighbours.scores(places, [[text] for text in task.texts])
    matrix = torch.cat([scores(rows) for rows in torch.arange(len(places)).split(1024)])  # (images, texts)
    return task.metrics_of_scores(lambda rows: matrix[rows], lambda rows: matrix.T[rows])


def with_provenance(
    name: str,
    result: dict[str, Any],
    baselines: dict[str, Any],
    model: Encoder,
    manifest: Manifest,
    where: str | None,
) -> dict[str, Any]:
    """A result with everything that its numbers depend on, in the order of `docs/formats.md`."""
    return stated(
        name, result, baselines, model, data=manifest.name, split_hash=manifest.fingerprint(), where=where
    )


def stated(
    name: str,
    result: dict[str, Any],
    baselines: dict[str, Any],
    model: Encoder,
    *,
    data: str,
    split_hash: str,
    where: str | None,
) -> dict[str, Any]:
    """As `with_provenance`, for rows that are no single manifest.

    Args:
        name: of the task.
        result: metrics, interval, chance, samples, prompts and whatever else belongs to the task.
        floors: name -> metrics, and `about`.
        model: what was judged.
        data: what it was judged on, in words.
        split_hash: fingerprint of exactly these rows.
        where: the condition that chose them.
    """
    about = baselines.pop("about", None)
    return {
        "task": name,
        "metrics": _rounded(result.pop("metrics")),
        "interval": _rounded(result.pop("interval")),
        "chance": _rounded(result.pop("chance")),
        "baselines": _rounded(baselines),
        **({"floors_about": about} if about else {}),
        "samples": result.pop("samples"),
        "split_hash": split_hash,
        "prompts": result.pop("prompts"),
        "preprocess": model.preprocess.model_dump(mode="json"),
        "tie_rule": TIE_RULE,
        "model": model.fingerprint,
        "data": data,
        "where": where,
        **result,
    }


def _rounded(value: Any) -> Any:
    """Figures to a millionth: what is behind that depends on the order of sums."""
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else round(value, 6)
