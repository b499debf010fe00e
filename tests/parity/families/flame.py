"""FLAME: losses with several texts a picture, the same over processes, and the projector.

Source of the arrays: MIV-XJTU/FLAME, `open_clip/loss.py`, `model.py` and `transformer.py`, on a CPU in
float32. Tolerances, relative: losses and gradients 1e-5, the projector 1e-4; gradients and projections near
zero, which are differences of large numbers, within 1e-6.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.types import Dims, Features, TowerOutput
from frugalclip.functional import (
    info_nce_loss,
    multi_positive_nce_loss,
    multi_positive_sigmoid_loss,
    sigmoid_loss,
    unit,
)
from frugalclip.objectives.facets import Config, Facets
from frugalclip.towers.heads.facets import FacetProjectorConfig

# the arrays' gradients are up to 2e-7 from those in float64: more than 1e-5 of their smallest entries
ROUNDING = 1e-6
Arrays = dict[str, Tensor]


def _read(path: Path) -> Arrays:
    return {
        name: torch.from_numpy(np.array(value)) for name, value in np.load(path, allow_pickle=False).items()
    }


def _by_picture(a: Arrays) -> Tensor:
    """(batch, facets, dim) from rows that stand picture by picture."""
    return a["text"].unflatten(0, (len(a["image"]), int(a["mp"])))


def _leaves(a: Arrays, *names: str) -> list[Tensor]:
    return [a[name].clone().requires_grad_() for name in names]


def _near(ours: Tensor | None, theirs: Tensor, *, rtol: float = 1e-5, atol: float = 0.0) -> None:
    assert ours is not None
    torch.testing.assert_close(ours.detach().reshape(theirs.shape), theirs, rtol=rtol, atol=atol)


def _objective(a: Arrays, **settings: object) -> tuple[Facets, Features]:
    """The objective and what it looks at; `bias` starts where the arrays say."""
    rows, dim = a["image"].shape
    dims = Dims(
        image_width=dim, text_width=dim, embedding=dim, vocabulary=1, context=1, patch_grid=(1, 1), batch=rows
    )
    images, texts = a["image"], _by_picture(a)
    views = Features(
        {"main": TowerOutput(None, images, images)},
        {"caption": TowerOutput(None, texts, texts)},
        a["logit_scale"],
    )
    return Facets(Config.model_validate(settings), dims), views


def check_flame_mpsigmoid(path: Path) -> None:
    """One sum over all pairs divided by the number of texts, gradients, one text a picture, ranks' shares."""
    a = _read(path)
    facets, own = int(a["mp"]), torch.arange(len(a["image"]))
    images, texts, scale, bias = _leaves(a, "image", "text", "logit_scale", "logit_bias")
    loss = multi_positive_sigmoid_loss(images, texts.unflatten(0, (len(own), facets)), scale, bias)
    loss.backward()
    _near(loss, a["loss"])
    for leaf, name in (
        (images, "grad_image"),
        (texts, "grad_text"),
        (scale, "grad_logit_scale"),
        (bias, "grad_logit_bias"),
    ):
        _near(leaf.grad, a[name], atol=ROUNDING)
    objective, views = _objective(a, bias=float(a["logit_bias"]))
    _near(objective(views).loss, a["loss"])

    first = _by_picture(a)[:, :1]
    one = multi_positive_sigmoid_loss(a["image"], first, a["logit_scale"], a["logit_bias"])
    _near(one, a["loss_mp1"])
    assert one.equal(sigmoid_loss(a["image"], first[:, 0], a["logit_scale"], a["logit_bias"]))

    everyone = _by_picture(a)
    shares = [
        multi_positive_sigmoid_loss(
            a["image"][rows],
            everyone[rows],
            a["logit_scale"],
            a["logit_bias"],
            text_candidates=everyone,
            own=rows,
        )
        for rows in own.tensor_split(len(a["loss_2rank"]))
    ]
    _near(torch.stack(shares), a["loss_2rank"])
    _near(torch.stack(shares).mean(), a["loss"])


def check_flame_mpnce(path: Path) -> None:
    """Place by place in both directions, and gradients; one text a picture is CLIP's loss."""
    a = _read(path)
    images, texts, scale = _leaves(a, "image", "text", "logit_scale")
    loss = multi_positive_nce_loss(images, texts.unflatten(0, (len(images), int(a["mp"]))), scale).loss / 2
    loss.backward()
    _near(loss, a["loss"])
    for leaf, name in ((images, "grad_image"), (texts, "grad_text"), (scale, "grad_logit_scale")):
        _near(leaf.grad, a[name], atol=ROUNDING)
    objective, views = _objective(a, loss="contrastive")
    _near(objective(views).loss, a["loss"])
    first = _by_picture(a)[:, :1]
    directions = info_nce_loss(a["image"], first[:, 0], a["logit_scale"])
    assert multi_positive_nce_loss(a["image"], first, a["logit_scale"]).loss.equal(
        directions[0] + directions[1]
    )


def check_flame_projector(path: Path) -> None:
    """Every token projected and normalised on its own, then the mean over patches without the class token."""
    a = _read(path)
    hidden, width = a["w0"].shape
    config = FacetProjectorConfig()
    assert config.widths(width=width, dim=len(a["w1"])) == [width, hidden, len(a["w1"])], (
        "the hidden width is derived"
    )
    projector = config.build(width=width, dim=len(a["w1"]))
    names = {"layers.0": ("w0", "b0"), "layers.1": ("w1", "b1"), "norm": ("ln_w", "ln_b")}
    projector.load_state_dict(
        {
            f"{ours}.{part}": a[name]
            for ours, both in names.items()
            for part, name in zip(("weight", "bias"), both, strict=True)
        }
    )
    tokens = a[
        "tokens"
    ].double()  # in single precision ours would add its own rounding of thousands of summands to theirs
    pooled = projector.double()(tokens[:, 1:])
    for ours, theirs in ((projector.project(tokens), "projected"), (pooled, "pooled"), (unit(pooled), "out")):
        _near(ours.float(), a[theirs], rtol=1e-4, atol=ROUNDING)
