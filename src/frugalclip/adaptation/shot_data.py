"""Frozen features of labelled rows for `compare_shots`: of a model, or of a store of its vectors."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from frugalclip.adaptation.compare_shots import ShotData, TestRows
from frugalclip.adaptation.few_shot_heads import ZeroShotWeights
from frugalclip.core.errors import DataError
from frugalclip.data.manifest import Manifest
from frugalclip.data.words import normalise
from frugalclip.evaluation.classes import row_names
from frugalclip.evaluation.classifiers import Examples
from frugalclip.evaluation.encoding import FeatureEncoder, Layer, encode_texts, image_features
from frugalclip.evaluation.groups import find_groups
from frugalclip.evaluation.labelled import LabelledRows, labelled_rows, rows_of_classes
from frugalclip.evaluation.probes import read_features
from frugalclip.evaluation.prompts import fill, find_prompts
from frugalclip.functional import class_weights
from frugalclip.models import Model
from frugalclip.sources.open import open_data


def shot_data(
    encoder: FeatureEncoder,
    everything: Manifest,
    *,
    where: str | None = None,
    label_field: str | None = None,
    prompts: str | Path = "plain",
    features: Layer = "embedding",
    out_of_domain: Sequence[str | Path | Manifest] = (),
) -> ShotData:
    """Encode labelled rows, test rows of other data sets and the names of the classes; see `adapt_probe`."""
    labelled = labelled_rows(everything.where(where), everything, label_field=label_field)
    if len(labelled.names) < 2:
        raise DataError(f"{everything.name} has one class, '{labelled.names[0]}'; a probe needs two.")
    found = read_features(encoder, everything, labelled, layer=features)
    weights = None
    if isinstance(encoder, Model) and features == "embedding":
        weights = _zero_shot(encoder, _spelled(everything, labelled, label_field), prompts)
    others = {
        str(one.name if isinstance(one, Manifest) else one): _test_rows(
            encoder, one, labelled, label_field, features
        )
        for one in out_of_domain
    }
    kept = replace(found.labelled, left_out=found.left_out)
    return ShotData(found.features, kept, everything, weights, others)


def _spelled(everything: Manifest, labelled: LabelledRows, label_field: str | None) -> list[str]:
    """(classes,) the names as the data writes them, for prompts."""
    rows, _ = row_names(everything, label_field=label_field)
    first = {normalise(row[0]): row[0] for row in reversed(rows) if row}
    return [first[name] for name in labelled.names]


def _zero_shot(model: Model, names: Sequence[str], prompts: str | Path) -> ZeroShotWeights | None:
    """The classifier that the text tower gives; None for an image encoder alone."""
    if model.scale is None:
        return None
    templates = find_prompts(prompts)
    filled = [fill(templates, name) for name in names]
    features = encode_texts(model, [text for texts in filled for text in texts])
    owners = torch.tensor([place for place, texts in enumerate(filled) for _ in texts])
    return ZeroShotWeights(class_weights(features, owners, count=len(names)), model.scale)


def _test_rows(
    encoder: FeatureEncoder,
    data: str | Path | Manifest,
    labelled: LabelledRows,
    label_field: str | None,
    features: Layer,
) -> TestRows:
    """Rows of another data set whose class is known."""
    manifest = data if isinstance(data, Manifest) else open_data(data)
    rows, labels = rows_of_classes(manifest, labelled.names, label_field=label_field)
    vectors, kept, _ = image_features(encoder, manifest, rows, layer=features)
    groups = find_groups(manifest.take(rows[kept]))
    return TestRows(Examples(vectors, labels[torch.from_numpy(kept)]), groups)
