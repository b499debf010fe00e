"""ProtoCLIP: back translation, losses, heads, learning rates, what representations look like, k-means.

Source of the arrays: megvii-research/protoclip commit fde1933 on a CPU; k-means from the formula in float64,
and from faiss 1.15.1. Tolerances: losses 1e-5 relative, gradients 1e-4 relative and 1e-6 absolute, learning
rates 1e-12, labels exact, objectives within 3 %.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.numerics import cluster_means, kmeans, nearest_centres
from frugalclip.evaluation.grouping import feature_spread, grouping_scores, modality_gap, self_similarity
from frugalclip.functional import info_nce_loss, unit
from frugalclip.objectives.prototypes import Config as PrototypesConfig
from frugalclip.objectives.prototypes import prototype_loss
from frugalclip.towers.heads.projection import ProjectionHead
from frugalclip.training.optim import ScheduleConfig, learning_rates

Arrays = dict[str, Tensor]
SETTINGS: dict[
    str, dict[str, Any]
] = {  # prefix: temperature, back translation, external, weights of clip, proto, external
    "full": {"temperature": 0.01, "translate": True, "external": True, "weights": (1, 1, 1)},
    "soft_nopbt": {"temperature": 0.01, "translate": False, "external": False, "weights": (1, 1, 0)},
    "soft_warm": {"temperature": 0.3, "translate": True, "external": False, "weights": (1, 0.5, 0)},
    "hard_pbt": {"temperature": 0.0, "translate": True, "external": False, "weights": (1, 1, 0)},
    "warmup": {"temperature": 0.01, "translate": True, "external": True, "weights": (1, 0, 0)},
}


def _read(path: Path) -> Arrays:
    return {
        name: torch.from_numpy(np.asarray(value)) for name, value in np.load(path, allow_pickle=False).items()
    }


def _close(ours: Tensor, theirs: Tensor, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    torch.testing.assert_close(
        ours.detach().to(theirs.dtype).reshape(theirs.shape), theirs, rtol=rtol, atol=atol
    )


def check_protoclip_pbt(path: Path) -> None:
    """Means of one modality's features by another's labels; a label without features is a row of zeros."""
    a = _read(path)
    k = int(a["k"])
    for name, features, labels in (
        ("img_centroids", "img_features", "img_labels"),
        ("text_centroids", "text_features", "text_labels"),
        ("external_centroids", "external_features", "external_labels"),
        ("img_from_text", "img_features", "text_labels"),
        ("text_from_img", "text_features", "img_labels"),
        ("img_from_ext", "img_features", "external_labels"),
        ("text_from_ext", "text_features", "external_labels"),
    ):
        _close(cluster_means(a[features], a[labels], k), a[name])
    assert not cluster_means(a["img_features"], a["text_labels"], k)[k - 1].any()


def check_protoclip_loss(path: Path) -> None:
    """InfoNCE, prototype and external terms in five settings, with every gradient.

    `ext_centroids` has no part in the loss, since external labels are hard: only its number of rows counts.
    """
    a = _read(path)
    assert len(a["ext_centroids"]) == len(a["img_from_ext"]) == len(a["text_from_ext"])
    names = ("image_features", "text_features", "image_proj", "text_proj", "log_scale", "log_scale_proto")
    for prefix, setting in SETTINGS.items():
        leaves = {name: a[name].clone().requires_grad_() for name in names}
        image, text, image_proj, text_proj, log_scale, log_scale_proto = leaves.values()
        scale = log_scale_proto.exp()
        clip = sum(info_nce_loss(image, text, log_scale.exp()), torch.zeros(())) / 2
        spaces = (
            ("img_from_text", "text_from_img")
            if setting["translate"]
            else ("text_centroids", "img_centroids")
        )
        t = setting["temperature"]
        of_image, hits_image = prototype_loss(
            image_proj,
            a[spaces[0]],
            scale,
            a["text_labels"],
            teacher_prototypes=a["text_centroids"],
            temperature=t,
        )
        of_text, hits_text = prototype_loss(
            text_proj,
            a[spaces[1]],
            scale,
            a["img_labels"],
            teacher_prototypes=a["img_centroids"],
            temperature=t,
        )
        outside = [
            prototype_loss(h, a[f"{m}_from_ext"], scale, a["ext_labels"])[0]
            for h, m in ((image_proj, "img"), (text_proj, "text"))
        ]
        proto, external = (of_image + of_text) / 2, (outside[0] + outside[1]) / 2
        weights = setting["weights"]
        total = weights[0] * clip + weights[1] * proto + weights[2] * external
        total.backward()
        found = {
            "clip": clip,
            "proto_img2text": of_image,
            "proto_text2img": of_text,
            "proto": proto,
            "total": total,
        }
        found["ext"] = external if setting["external"] else torch.zeros(())
        for name, value in found.items():
            _close(value, a[f"{prefix}_{name}"])
        for ours, name in ((hits_image, "acc_img2text"), (hits_text, "acc_text2img")):
            _close(100 * ours, a[f"{prefix}_{name}"], atol=1e-4)
        for name, leaf in leaves.items():
            gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            _close(gradient, a[f"{prefix}_g_{name}"], rtol=1e-4)


def check_protoclip_head(path: Path) -> None:
    """Both heads with running and with batch statistics: equal at the start, with statistics of their own."""
    a = _read(path)
    layers = int(a["n_layers"])
    linear = sorted(
        int(name.split("_")[1])
        for name in a
        if name.startswith("w_") and name.endswith("_weight") and a[name].ndim == 2
    )
    assert len(linear) == layers + 1
    widths = [a[f"w_{linear[0]}_weight"].shape[1], *[len(a[f"w_{place}_bias"]) for place in linear]]
    heads = {}
    for modality in ("image", "text"):
        head = ProjectionHead(widths)
        state = {}
        for name, value in a.items():
            if name.startswith("w_"):
                place, _, entry = name.removeprefix("w_").partition("_")
                state[f"{place}.{entry}"] = value
        head.load_state_dict(state)
        heads[modality] = head
    assert bool(a["heads_identical_at_init"])
    for mode in ("eval", "train"):
        for modality, head in heads.items():
            head.train(mode == "train")
            _close(unit(a[f"{modality}_embed"]), a[f"{mode}_{modality}_features"])
            _close(unit(head(a[f"{modality}_embed"])), a[f"{mode}_{modality}_proj"])
        for name in ("scale", "scale_proto"):  # CLIP's own, and that of the prototypes
            _close(torch.tensor(PrototypesConfig().scale), a[f"{mode}_{name}"])
    for name, value in a.items():
        if name.startswith("after_"):
            place, _, entry = name.removeprefix("after_").partition("_")
            _close(heads["text"].state_dict()[f"{place}.{entry}"], value)


def check_protoclip_lr(path: Path) -> None:
    """The learning rates of the image tower, which ends early, and of everything else."""
    a = np.load(path, allow_pickle=False)
    base, warmup, steps = float(a["base_lr"]), int(a["warmup"]), int(a["total_steps"])
    schedule = ScheduleConfig(kind="cosine", warmup=warmup)
    for end, name in ((int(a["visual_steps"]), "lr_visual"), (steps, "lr_rest")):
        np.testing.assert_allclose(
            learning_rates(schedule, peak=base, steps=steps, end=end), a[name], rtol=1e-12, atol=0
        )


def check_protoclip_metrics(path: Path) -> None:
    """Gap, self-similarity as published and without the diagonal, spread, clusters against labels."""
    a = _read(path)
    images, texts = a["image_features"], a["text_features"]
    _close(torch.tensor(modality_gap(images, texts)), a["modality_gap"])
    for features, name in ((images, "image"), (texts, "text")):
        _close(torch.tensor(self_similarity(features, published=True)), a[f"{name}_avg_self_similarity"])
        _close(torch.tensor(feature_spread(features)), a[f"{name}_feature_std"])
    _close(torch.tensor(self_similarity(images)), a["image_mean_offdiag_cosine"])
    scores = grouping_scores(a["labels"], a["clusters"])
    np.testing.assert_allclose([scores["ari"], scores["ami"]], [float(a["ari"]), float(a["ami"])], rtol=1e-5)


def check_protoclip_kmeans(path: Path) -> None:
    """Lloyd's path from given centres: objectives, centres, labels."""
    a = _read(path)
    found = kmeans(a["x"].double(), len(a["init"]), start=a["init"].double(), steps=int(a["niter"]))
    np.testing.assert_allclose(found.path, a["obj"].numpy(), rtol=1e-9)
    _close(found.centres, a["centroids"], atol=1e-9)
    assert torch.equal(found.labels, a["labels"])
    np.testing.assert_allclose(found.objective, float(a["final_obj"]), rtol=1e-9)


def check_protoclip_faiss(path: Path) -> None:
    """As good an objective as faiss with the same updates and restarts, and centres not made unit vectors."""
    a = _read(path)
    k = int(a["k"])
    assert k == len(a["centroids"])
    draw = torch.Generator().manual_seed(0)
    found = kmeans(a["x"], k, steps=int(a["niter"]), restarts=int(a["nredo"]), generator=draw)
    assert found.objective <= 1.03 * float(a["final_obj"])
    assert torch.equal(nearest_centres(a["x"], a["centroids"]), a["labels"])
    distances = (a["x"] - a["centroids"][a["labels"]]).square().sum(dim=1)
    _close(distances, a["sq_dist"], rtol=1e-4, atol=1e-5)
    # faiss notes its objective before the last update, which lowers it, if only a little
    assert 0.99 * float(a["final_obj"]) < float(distances.sum()) < 1.0001 * float(a["final_obj"])
    _close(a["centroids"].norm(dim=1), a["centroid_norms"])
    assert bool((found.centres.norm(dim=1) < 1).all()) == bool((a["centroid_norms"] < 1).all())
