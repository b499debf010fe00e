"""A-CLIP: block masks, scores carried between crops, the tower's [CLS] attention, heads and the sum of terms.

Source of the arrays: microsoft/A-CLIP commit 0e51942f on a CPU in float32; where its code is wrong, the value
of the repaired formula. Tolerance 1e-5; masks exact.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frugalclip.functional import info_nce_loss, unit
from frugalclip.objectives.attentive_mask import block_scores, crop_scores, highest_blocks
from frugalclip.objectives.byol import byol_loss
from frugalclip.objectives.simclr import nt_xent_loss
from frugalclip.towers.heads.projection import ProjectionHead
from frugalclip.towers.vit import Vit, VitConfig

Arrays = dict[str, Tensor]


def _read(path: Path) -> Arrays:
    return {
        name: torch.from_numpy(np.asarray(value)) for name, value in np.load(path, allow_pickle=False).items()
    }


def _close(ours: Tensor | None, theirs: Tensor, atol: float = 1e-5) -> None:
    assert ours is not None
    torch.testing.assert_close(ours.detach().to(theirs.dtype), theirs, rtol=0, atol=atol)


def _square(scores: Tensor) -> tuple[int, int]:
    side = math.isqrt(scores.shape[1])
    return side, side


def _removed(scores: Tensor, ratio: float) -> Tensor:
    """(batch, patches) bool: the removed patches when `ratio` is kept; the authors keep one block more."""
    grid = _square(scores)
    blocks = block_scores(scores, grid=grid, block=2)
    keep = highest_blocks(blocks, grid=grid, block=2, number=math.floor(blocks.shape[1] * ratio) + 1)
    return torch.ones_like(scores, dtype=torch.bool).scatter(1, keep, False)


def check_aclip_block_mask(path: Path) -> None:
    """Means of 2 x 2 patches, and the patches that go at three ratios."""
    a = _read(path)
    grid = _square(a["scores"])
    _close(block_scores(a["scores"], grid=grid, block=2).view(a["pooled_7x7"].shape), a["pooled_7x7"])
    for percent in (25, 50, 75):
        assert torch.equal(_removed(a["scores"], percent / 100), a[f"removed_mask_ratio{percent}"])


def check_aclip_score_crop(path: Path) -> None:
    """Scores of the EMA tower's crop, carried to both views by two chained bilinear resizes."""
    a = _read(path)
    first, second, around = a["positions_top_left_height_width"].unbind(1)
    grid = _square(a["scores"])
    for box, name in ((first, "view1_scores"), (second, "view2_scores")):
        _close(crop_scores(a["scores"], around, box, grid=grid, around_grid=grid), a[name])


def _tower(a: Arrays) -> Vit:
    """Our tower with the authors' weights, fed with tokens instead of pictures."""
    width, heads = a["tokens"].shape[2], int(a["num_heads"])
    depth = 1 + max(int(name.split(".")[2]) for name in a if name.startswith("w.blocks."))
    side = math.isqrt(a["tokens"].shape[1])
    neurons = len(a["w.blocks.0.mlp.0.bias"])
    config = VitConfig.model_validate(
        {
            "width": width,
            "depth": depth,
            "head_dim": width // heads,
            "neurons": [neurons] * depth,
            "patch": 1,
            "resolution": side,
            "pre_norm": False,
        }
    )
    tower = Vit(config, dim=4).eval()
    state = {
        "cls": a["w.cls_token"],
        "positions": a["w.pos_embed"],
        "norm_after.weight": a["w.norm.weight"],
        "norm_after.bias": a["w.norm.bias"],
    }
    names = {
        "norm1": "norm_attention",
        "norm2": "norm_feed_forward",
        "attn.qkv": "attention.qkv",
        "attn.proj": "attention.out",
    }
    names |= {"mlp.0": "feed_forward.enter", "mlp.2": "feed_forward.leave"}
    for layer in range(depth):
        for theirs, ours in names.items():
            for entry in ("weight", "bias"):
                state[f"layers.blocks.{layer}.{ours}.{entry}"] = a[f"w.blocks.{layer}.{theirs}.{entry}"]
    missing, unexpected = tower.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) == {"patch.weight", "project.weight"}
    for module in tower.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6
    return tower


def check_aclip_vit_score(path: Path) -> None:
    """[CLS] attention over all layers and heads, its mask, and the [CLS] output with and without the mask."""
    a = _read(path)
    tower, tokens = _tower(a), a["tokens"]
    side = math.isqrt(tokens.shape[1])
    tower._patches = lambda images: (tokens, (side, side))  # type: ignore[method-assign]
    views = torch.zeros(len(tokens), 3, side, side)
    with torch.no_grad():
        whole = tower(views, with_attention=True)
        assert whole.attention is not None
        _close(whole.attention, a["cls_patch_score"])
        assert torch.equal(_removed(whole.attention, 0.5), a["removed_mask"])
        _close(whole.pooled, a["cls_full"])
        keep = (~a["removed_mask"]).nonzero()[:, 1].view(len(tokens), -1)
        assert keep.shape[1] + 1 == int(a["masked_len"])
        _close(tower(views, keep=keep).pooled, a["cls_masked"])


def check_aclip_heads(path: Path) -> None:
    """SimCLR's and BYOL's heads with batch statistics.

    The arrays hold the state before the call, so their running statistics are a fresh module's.
    """
    a = _read(path)
    for name, value in a.items():
        fresh = {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0}
        if (entry := name.rpartition(".")[2]) in fresh:
            assert bool((value == fresh[entry]).all()), name

    def head(prefix: str, places: dict[str, int], *, bias: bool) -> ProjectionHead:
        weights = [a[f"{prefix}.{name}.weight"] for name in places if a[f"{prefix}.{name}.weight"].ndim == 2]
        built = ProjectionHead([weights[0].shape[1], *[len(w) for w in weights]], bias=bias)
        state = {}
        for key, place in places.items():
            start = f"{prefix}.{key}."
            state |= {f"{place}.{name.removeprefix(start)}": a[name] for name in a if name.startswith(start)}
        built.load_state_dict(state)
        return built

    x = a["x"].clone().requires_grad_()
    simclr = head("simclr", {"layer1": 0, "bn1": 1, "layer2": 3, "bn2": 4, "layer3": 6}, bias=True)
    projector = head("byol_proj", {"0": 0, "1": 1, "3": 3}, bias=False)
    predictor = head("byol_pred", {"0": 0, "1": 1, "3": 3}, bias=False)
    out, projected = simclr(x), projector(x)
    predicted = predictor(projected)
    (out.square().mean() + predicted.pow(3).mean()).backward()
    for built, layer, given in ((projector, 0, x), (predictor, 0, projected)):
        hidden = given.detach() @ built[layer].weight.detach().T  # (batch, width)
        _close(built[1].running_mean, 0.1 * hidden.mean(dim=0))
        _close(built[1].running_var, 0.9 + 0.1 * hidden.var(dim=0))
    for ours, name in (
        (out, "simclr_out"),
        (projected, "byol_proj_out"),
        (predicted, "byol_pred_out"),
        (x.grad, "grad_x"),
    ):
        _close(ours, a[name])


def check_aclip_loss(path: Path) -> None:
    """The sum of the terms with view 1 against view 2; the released code compares view 1 with itself."""
    a = _read(path)
    names = ("image_embed", "text_embed", "image_ssl_embed", "byol_pred")
    images, texts, ssl, predicted = (a[name].clone().requires_grad_() for name in names)
    contrasts = [
        sum(info_nce_loss(unit(view), unit(texts), a["logit_scale"])) / 2 for view in images.chunk(2)
    ]
    first, second = unit(ssl).chunk(2)
    simclr, _ = nt_xent_loss(first, second, temperature=0.1)
    byol = byol_loss(predicted, a["byol_target_ema"].repeat(2, 1))
    total = 0.5 * contrasts[0] + 0.5 * contrasts[1] + simclr + 2 * byol
    total.backward()
    for ours, name in (
        (contrasts[0], "contra_view1"),
        (contrasts[1], "contra_view2"),
        (byol, "byol_loss"),
        (simclr, "simclr_fixed"),
        (total, "total_fixed"),
    ):
        assert isinstance(ours, Tensor)
        _close(ours, a[name])
    for leaf, name in zip((images, texts, ssl, predicted), names, strict=True):
        _close(leaf.grad, a[f"grad_{name}"])
    with_itself, _ = nt_xent_loss(first, first, temperature=0.1)  # what the released code computes
    _close(with_itself, a["simclr_official_bug"])
    _close(total - simclr + with_itself, a["total_official_bug"])
    assert abs(float(simclr.detach()) - float(a["simclr_official_bug"])) > 1e-3, (
        "view 1 is not compared with itself"
    )
