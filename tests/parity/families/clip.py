"""CLIP, ALIGN and SigLIP: losses and gradients, zero-shot class weights, tokeniser, linear probe.

Sources of the arrays: open_clip commit 89fb801f and SLIP commit c6faf5d0 on a CPU in float32; formulas in
float64 where noted. Tolerances: losses 1e-5, gradients 1e-5 absolute, formula cases 1e-6.
"""

from pathlib import Path

import numpy as np
import torch

from frugalclip.core.numerics import softmax_regression
from frugalclip.data.tokens import clip_tokenizer
from frugalclip.evaluation.ranking import cosine_scores
from frugalclip.evaluation.zeroshot import pool_ranks
from frugalclip.functional import class_weights, info_nce_loss, sigmoid_loss, unit


def _leaf(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array)).clone().requires_grad_()


def _close(ours: torch.Tensor | None, theirs: np.ndarray, atol: float) -> None:
    assert ours is not None
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=0, atol=atol)


def check_clip_infonce(path: Path) -> None:
    """Loss, both halves, gradients through normalisation and exp, and row accuracy; open_clip ClipLoss."""
    a = np.load(path, allow_pickle=False)
    images, texts, log_scale = (_leaf(a[name]) for name in ("image_embed", "text_embed", "log_logit_scale"))
    to_text, to_image = info_nce_loss(unit(images), unit(texts), log_scale.exp())
    loss = (to_text + to_image) / 2
    loss.backward()
    for ours, name in ((loss, "loss"), (to_text, "loss_i2t"), (to_image, "loss_t2i")):
        _close(ours, a[name], 1e-5)
    for leaf, name in (
        (images, "grad_image_embed"),
        (texts, "grad_text_embed"),
        (log_scale, "grad_log_logit_scale"),
    ):
        _close(leaf.grad, a[name], 1e-5)
    scores = cosine_scores(unit(images.detach()), unit(texts.detach()))
    ranks = pool_ranks(scores, torch.arange(len(images))[:, None], classes=len(texts))[""]
    accuracy = 100 * float(ranks.hits(1).mean())
    np.testing.assert_allclose(accuracy, a["acc_i2t_percent"], atol=1e-4)  # of 100, in float32


def check_clip_siglip(path: Path) -> None:
    """Sum over all pairs divided by the rows, and gradients; open_clip SigLipLoss."""
    a = np.load(path, allow_pickle=False)
    images, texts, log_scale, bias = (
        _leaf(a[name]) for name in ("image_embed", "text_embed", "log_logit_scale", "logit_bias")
    )
    loss = sigmoid_loss(unit(images), unit(texts), log_scale.exp(), bias)
    loss.backward()
    _close(loss, a["loss"], 1e-5)
    leaves = {
        "grad_image_embed": images,
        "grad_text_embed": texts,
        "grad_log_logit_scale": log_scale,
        "grad_logit_bias": bias,
    }
    for name, leaf in leaves.items():
        _close(leaf.grad, a[name], 1e-5)


def check_clip_align_smoothed(path: Path) -> None:
    """Label smoothing in both directions, summed and halved; from the formula in float64, tolerance 1e-6."""
    a = np.load(path, allow_pickle=False)
    images, texts = (torch.from_numpy(a[name].astype(np.float64)) for name in ("image_embed", "text_embed"))
    scale = 1 / torch.tensor(float(a["temperature"]), dtype=torch.float64)
    to_text, to_image = info_nce_loss(unit(images), unit(texts), scale, smoothing=float(a["label_smoothing"]))
    for ours, name in (
        (to_text, "loss_i2t"),
        (to_image, "loss_t2i"),
        (to_text + to_image, "loss_sum"),
        ((to_text + to_image) / 2, "loss_mean"),
    ):
        _close(ours, a[name], 1e-6)


def check_clip_zeroshot_ensemble(path: Path) -> None:
    """Class weights from several prompts, cosines and best class, as open_clip's build_zero_shot_classifier.

    The variant without inner norm is wrong.
    """
    a = np.load(path, allow_pickle=False)
    prompts, images = torch.from_numpy(a["prompt_embeddings"]), torch.from_numpy(a["image_embed"])
    classes, templates, dim = prompts.shape
    weights = class_weights(
        prompts.reshape(classes * templates, dim),
        torch.arange(classes).repeat_interleave(templates),
        count=classes,
    )
    cosines = unit(images) @ weights.T
    _close(weights, a["class_weights"], 1e-6)
    _close(cosines, a["cosine_logits"], 1e-6)
    np.testing.assert_array_equal(cosines.argmax(1).numpy(), a["top1"])
    labels = torch.from_numpy(a["top1"])[:, None]
    ranks = pool_ranks(cosine_scores(unit(images), unit(weights)), labels, classes=classes)
    assert ranks["generalised_"].hits(1).mean() == 1
    _close(unit(prompts.mean(dim=1)), a["class_weights_without_inner_norm"], 1e-6)
    assert np.abs(weights.numpy() - a["class_weights_without_inner_norm"]).max() > 1e-3


def check_clip_tokenizer(path: Path) -> None:
    """Ids and end-token position, exactly; SLIP's ids lose the end token of long texts, ours do not."""
    a = np.load(path, allow_pickle=False)
    tokenizer = clip_tokenizer(context=a["open_clip_ids"].shape[1])
    tokens = tokenizer.encode([str(text) for text in a["texts"]], pad_to=tokenizer.context)
    np.testing.assert_array_equal(tokens.ids.numpy(), a["open_clip_ids"])
    np.testing.assert_array_equal(tokens.lengths.numpy() - 1, a["eot_position"])
    ends = tokens.ids[torch.arange(len(tokens)), tokens.lengths - 1]
    assert (ends == tokenizer.end).all()
    lost = (a["slip_ids"] != tokenizer.end).all(axis=1)  # rows where the quirk shows
    assert (tokens.ids.numpy()[lost] != a["slip_ids"][lost])[:, -1].all()
    np.testing.assert_array_equal(tokens.ids.numpy()[lost, :-1], a["slip_ids"][lost, :-1])
    np.testing.assert_array_equal(tokens.ids.numpy()[~lost], a["slip_ids"][~lost])


def check_clip_linear_probe(path: Path) -> None:
    """The optimum of `C * sum CE + 0.5 ||W||^2`, with a free bias; from the formula in float64.

    Tolerances: weights 1e-4, objective 1e-5 relative.
    """
    a = np.load(path, allow_pickle=False)
    train, labels = torch.from_numpy(a["train_features"]), torch.from_numpy(a["train_labels"])
    fit = softmax_regression(train, labels, strength=float(a["C"]), classes=len(a["weight"]))
    _close(fit.weight, a["weight"], 1e-4)
    _close(fit.bias, a["bias_centered"], 1e-4)
    np.testing.assert_allclose(fit.objective, a["objective"], rtol=1e-5)
    logits = fit.logits(torch.from_numpy(a["test_features"]))
    _close(logits.softmax(dim=1), a["test_probabilities"], 1e-4)
    top1 = (logits.argmax(1).numpy() == a["test_labels"]).mean()
    np.testing.assert_allclose(top1, a["test_top1"], atol=1e-12)
