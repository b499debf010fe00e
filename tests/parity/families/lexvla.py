"""LexVLA: lexical vectors, what keeps them sparse, how they are compared, whether patches name their content.

Sources of the arrays: FLOPS, L1, L0 and the weight's schedule from naver/splade `losses/regularization.py` in
float32; the rest from the formulas in float64, as there is no official code. Tolerances, relative: FLOPS and
heads 1e-5; overuse and the contrast 1e-6, in single precision 1e-4; patches 1e-9, predictions exactly.
"""

import runpy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.numerics import keep_top_k
from frugalclip.core.types import Dims, Features, TowerOutput
from frugalclip.functional import (
    best_word_scores,
    flops_loss,
    info_nce_loss,
    l1_loss,
    lexical_activation,
    lexical_usage,
    mean_non_zeros,
    overuse_loss,
    overuse_weights,
    quadratic_ramp,
    unit,
    word_scores,
)
from frugalclip.objectives.lexical import Config, Lexical
from frugalclip.towers.heads.lexical import LexicalConfig, LexicalHead, truncated

Arrays = dict[str, Tensor]
PATCHDIS = Path(__file__).resolve().parents[3] / "benchmarks" / "patchdis.py"


def _read(path: Path) -> Arrays:
    return {
        name: torch.from_numpy(np.array(value)) for name, value in np.load(path, allow_pickle=False).items()
    }


def _near(ours: Tensor | float | None, theirs: Tensor, *, rtol: float, atol: float = 0.0) -> None:
    assert ours is not None
    found = torch.as_tensor(ours, dtype=theirs.dtype).detach()
    torch.testing.assert_close(found.reshape(theirs.shape), theirs, rtol=rtol, atol=atol, equal_nan=True)


def _gradient(vectors: Tensor, **settings: bool) -> Tensor | None:
    leaf = vectors.clone().requires_grad_()
    overuse_loss(lexical_usage(leaf), **settings).backward()
    return leaf.grad


def check_lexvla_flops(path: Path) -> None:
    """FLOPS and its gradient, L1, L0, and the weight over the steps."""
    a = _read(path)
    vectors = a["s"].clone().requires_grad_()
    flops = flops_loss(lexical_usage(vectors, absolute=True))
    flops.backward()
    for ours, name in (
        (flops, "flops"),
        (vectors.grad, "grad_flops"),
        (l1_loss(a["s"]), "l1"),
        (mean_non_zeros(a["s"]), "l0"),
    ):
        _near(ours, a[name], rtol=1e-5)
    steps = torch.arange(1, len(a["lambda_schedule"]) + 1, dtype=torch.float64)
    _near(
        torch.stack([a["lambda_max"] * quadratic_ramp(step / a["T"]) for step in steps]),
        a["lambda_schedule"],
        rtol=1e-5,
    )


def check_lexvla_overuse(path: Path) -> None:
    """The penalty in both scales and on unit rows, weights, both gradients; double and single precision."""
    a = _read(path)
    for kind, rtol, atol in (
        (torch.float64, 1e-6, 0.0),
        (torch.float32, 1e-4, 1e-6),
    ):  # a gradient that changes its sign has entries near zero
        vectors = a["s"].to(kind)
        usage = lexical_usage(vectors)
        for ours, name in (
            (overuse_loss(usage), "overuse"),
            (overuse_loss(usage, scale_by_vocab=False), "overuse_no_V"),
            (overuse_loss(lexical_usage(unit(vectors))), "overuse_l2rows"),
            (overuse_weights(usage), "weight"),
            (flops_loss(usage), "flops"),
            (_gradient(vectors), "grad"),
            (_gradient(vectors, detach_weight=True), "grad_stopgrad_weight"),
        ):
            _near(ours, a[name], rtol=rtol, atol=atol)


def check_lexvla_heads(path: Path) -> None:
    """Scores, activations and maxima over patches, with and without a mask, and the largest words.

    All are computed by the direct form, in blocks and by the head.
    """
    a = _read(path)
    states, codebook, mask = a["patch_hidden"], a["codebook"], a["patch_mask"]
    scores = word_scores(states, codebook)
    _near(scores, a["dot"], rtol=1e-5)
    _near(word_scores(unit(states), unit(codebook)), a["cos"], rtol=1e-5)
    _near(lexical_activation(scores, kind="log1p_relu"), a["patch_lex_log1prelu"], rtol=1e-5)
    for chunk in (None, 1, 7):
        best, masked = (best_word_scores(states, codebook, mask=m, chunk=chunk) for m in (None, mask))
        _near(lexical_activation(best, kind="log1p_relu"), a["image_lex_max_log1prelu"], rtol=1e-5)
        _near(lexical_activation(best, kind="elu1p"), a["image_lex_max_elu1p"], rtol=1e-5)
        _near(lexical_activation(masked, kind="log1p_relu"), a["image_lex_masked"], rtol=1e-5)

    plain = {"adapter_depth": 0, "mapper": False}
    head, rivals = (
        LexicalHead(
            LexicalConfig.model_validate({"kind": "lexical"} | plain | more),
            width=states.shape[2],
            codebook=codebook,
        )
        for more in ({}, {"activation": "elu1p"})
    )
    _near(head(states), a["image_lex_max_log1prelu"], rtol=1e-5)
    _near(head(states, mask=mask), a["image_lex_masked"], rtol=1e-5)
    _near(head.of_patches(states), a["patch_lex_log1prelu"], rtol=1e-5)
    _near(rivals(states), a["image_lex_max_elu1p"], rtol=1e-5)

    kept, largest = keep_top_k(a["image_lex_max_log1prelu"], int(a["topk"])), a["image_lex_topk"]
    assert torch.equal(kept != 0, largest != 0)
    _near(kept, largest, rtol=1e-5)
    assert truncated(a["image_lex_max_log1prelu"], top_k=int(a["topk"])).equal(kept)


def check_lexvla_clip(path: Path) -> None:
    """Cosines of lexical vectors over a temperature, and the mean of both directions.

    By the function and by the objective.
    """
    a = _read(path)
    images, texts, scale = unit(a["image_lex"]), unit(a["text_lex"]), 1 / a["temperature"]
    _near(scale * images @ texts.T, a["logits"], rtol=1e-6)
    _near(sum(info_nce_loss(images, texts, scale)) / 2, a["loss"], rtol=1e-6)
    rows, vocab = images.shape
    dims = Dims(
        image_width=vocab,
        text_width=vocab,
        embedding=vocab,
        vocabulary=vocab,
        context=1,
        patch_grid=(1, 1),
        batch=rows,
    )
    views = Features(
        {"main": TowerOutput(None, images, a["image_lex"])},
        {"caption": TowerOutput(None, texts, a["text_lex"])},
        scale,
    )
    _near(Lexical(Config.model_validate({"penalty": "none"}), dims)(views).loss, a["loss"], rtol=1e-6)


def check_lexvla_patchdis(path: Path) -> None:
    """Cosines of patches with classes, the best class, and intersection over union of the whole set."""
    a = _read(path)
    patchdis = runpy.run_path(str(PATCHDIS))
    scores = patchdis["patch_scores"](a["patch_lex"], a["class_lex"])
    _near(scores, a["scores"], rtol=1e-9)
    found = patchdis["patch_discrimination"](scores, a["labels"])
    assert torch.equal(found.predicted, a["pred"])
    for ours, name in ((found.iou, "iou"), (found.mean_iou, "miou"), (found.accuracy, "patch_acc")):
        _near(ours, a[name], rtol=1e-9)
