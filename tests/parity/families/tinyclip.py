"""TinyCLIP and MobileCLIP: affinities, hard-concrete gates, size constraints, cut blocks and inheritance.

Source of the arrays: microsoft/Cream, folder TinyCLIP, commit 4a13c40, and apple/ml-mobileclip commit
4144bb1, on a CPU in float32. Tolerance: losses rtol 1e-5, gradients rtol 1e-4 and atol 1e-6, outputs of
towers 2e-5, integer-coded weights exact.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugalclip.compression.inherit import TowerSize, first_units
from frugalclip.core.types import Features, Gates, TowerOutput
from frugalclip.functional import (
    Affinity,
    affinity_loss,
    expected_kept,
    goal_at,
    highest,
    info_nce_loss,
    open_probability,
    sampled_gates,
    size_penalty,
    soft_gates,
)
from frugalclip.objectives.affinity import AffinityMimicking
from frugalclip.objectives.affinity import Config as AffinityConfig
from frugalclip.objectives.base import Dims
from frugalclip.towers.blocks import Block, LayerGates
from frugalclip.towers.text import TextConfig
from frugalclip.towers.units import KeptUnits, Units, layer_axes
from frugalclip.towers.vit import Vit, VitConfig

Arrays = dict[str, Tensor]
DIMS = Dims(8, 8, 8, 16, 8, (2, 2), 8)


def _read(path: Path) -> Arrays:
    return {
        name: torch.from_numpy(np.asarray(value)) for name, value in np.load(path, allow_pickle=False).items()
    }


def _loss(ours: Tensor | float, theirs: Tensor) -> None:
    torch.testing.assert_close(
        torch.as_tensor(ours).detach().double(), theirs.double().reshape(()), rtol=1e-5, atol=1e-7
    )


def _gradient(ours: Tensor | None, theirs: Tensor) -> None:
    assert ours is not None
    torch.testing.assert_close(ours.reshape(theirs.shape).to(theirs.dtype), theirs, rtol=1e-4, atol=1e-6)


def _output(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours.detach(), theirs, rtol=0, atol=2e-5)


def _rows(x: Tensor) -> TowerOutput:
    return TowerOutput(None, x, x)


def check_tinyclip_affinity(path: Path) -> None:
    """Both directions, their mean, InfoNCE, the weighted total, the teacher's entropy, and gradients."""
    a = _read(path)
    for run in sorted(name.removesuffix("_total") for name in a if name.endswith("_total")):
        images, texts = (a[f"student_{side}"].clone().requires_grad_() for side in ("image", "text"))
        log_scale = a[f"{run}_student_scale"].log().requires_grad_()
        alpha, teacher_scale = float(a[f"{run}_alpha"]), float(a[f"{run}_teacher_scale"])
        config = AffinityConfig(alpha=alpha, scales=(teacher_scale,))
        teacher = Features(
            {"main": _rows(a["teacher_image"])}, {"caption": _rows(a["teacher_text"])}, torch.ones(())
        )
        views = Features(
            {"main": _rows(images)}, {"caption": _rows(texts)}, log_scale.exp(), targets={"teacher": teacher}
        )
        output = AffinityMimicking(config, DIMS)(views)
        _loss(output.loss, a[f"{run}_total"])
        _loss(output.logs["teacher_entropy"], a[f"{run}_teacher_entropy"])
        _check_directions(a, run, teacher_scale=teacher_scale)
        teachers = [(a["teacher_image"], a["teacher_text"], teacher_scale)]
        total = _total(images, texts, log_scale.exp(), teachers, soft=alpha, hard=1 - alpha)
        total.backward()
        _loss(total, a[f"{run}_total"])
        _gradient(images.grad, a[f"{run}_g_student_image"])
        _gradient(texts.grad, a[f"{run}_g_student_text"])
        _gradient(log_scale.grad, a[f"{run}_g_log_scale"])


def _total(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    teachers: list[tuple[Tensor, Tensor, float]],
    *,
    soft: float,
    hard: float,
) -> Tensor:
    """The weighted sum of both losses of one kind of caption, for rows that are unit vectors already."""
    to_text = [Affinity(i, t, torch.tensor(s)) for i, t, s in teachers]
    to_image = [Affinity(t, i, torch.tensor(s)) for i, t, s in teachers]
    mimicked = (
        affinity_loss(Affinity(images, texts, scale), to_text)[0]
        + affinity_loss(Affinity(texts, images, scale), to_image)[0]
    )
    return soft * mimicked / 2 + hard * torch.stack(info_nce_loss(images, texts, scale)).mean()


def _check_directions(a: Arrays, run: str, *, teacher_scale: float) -> None:
    scale, own = a[f"{run}_student_scale"], (a["student_image"], a["student_text"])
    theirs, found = (a["teacher_image"], a["teacher_text"]), {}
    for name, (rows, others) in {"i2t": (0, 1), "t2i": (1, 0)}.items():
        teacher = Affinity(theirs[rows], theirs[others], torch.tensor(teacher_scale))
        found[name], _ = affinity_loss(Affinity(own[rows], own[others], scale), [teacher])
        _loss(found[name], a[f"{run}_{name}"])
    _loss((found["i2t"] + found["t2i"]) / 2, a[f"{run}_soft"])
    _loss(torch.stack(info_nce_loss(*own, scale)).mean(), a[f"{run}_hard"])


def check_tinyclip_mobileclip_dr(path: Path) -> None:
    """Real and generated captions, teachers averaged after the softmax, and gradients."""
    a = _read(path)
    dims, scales = a["teacher_dims"].tolist(), tuple(a["teacher_scales"].tolist())
    names = tuple(f"teacher{number}" for number in range(len(dims)))
    members = {
        kind: dict(zip(names, a[f"teacher_{kind}"].split(dims, dim=1), strict=True))
        for kind in ("image", "text", "syn_text")
    }
    teachers = {
        name: Features(
            {"main": _rows(members["image"][name])},
            {"caption": _rows(members["text"][name]), "generated": _rows(members["syn_text"][name])},
            torch.ones(()),
        )
        for name in names
    }
    for run in sorted(name.removesuffix("_weights") for name in a if name.endswith("_weights")):
        hard, soft = a[f"{run}_weights"].tolist()
        rows = {name: a[f"student_{name}"].clone().requires_grad_() for name in ("image", "text", "syn_text")}
        log_scale = a[f"{run}_student_scale"].log().requires_grad_()

        def loss(
            texts: tuple[str, ...], alpha: float, rows: Arrays = rows, log_scale: Tensor = log_scale
        ) -> Tensor:
            captions = {"caption": _rows(rows["text"]), "generated": _rows(rows["syn_text"])}
            views = Features({"main": _rows(rows["image"])}, captions, log_scale.exp(), targets=teachers)
            config = AffinityConfig(teachers=names, scales=scales, texts=texts, alpha=alpha)
            return AffinityMimicking(config, DIMS)(views).loss

        both = ("caption", "generated")
        for texts, start in ((both, ""), (("caption",), "gt_only_")):
            _loss(hard * loss(texts, 0.0), a[f"{run}_{start}contrastive"])
            _loss(soft * loss(texts, 1.0), a[f"{run}_{start}distill"])
        known = {
            kind: [
                (members["image"][name], members[kind][name], scale)
                for name, scale in zip(names, scales, strict=True)
            ]
            for kind in ("text", "syn_text")
        }
        total = torch.stack(
            [
                _total(rows["image"], rows[kind], log_scale.exp(), known[kind], soft=soft, hard=hard)
                for kind in ("text", "syn_text")
            ]
        ).sum()
        total.backward()
        _loss(total, a[f"{run}_total"])
        for name, key in (("image", "image"), ("text", "text"), ("syn_text", "syn")):
            _gradient(rows[name].grad, a[f"{run}_g_{key}"])
        _gradient(log_scale.grad, a[f"{run}_g_log_scale"])


def _expected(hidden: Tensor, heads: Tensor, neurons: Tensor) -> Tensor:
    """Expected kept size as the authors count it: matrices and biases of attention, matrices of the FFN.

    Args:
        hidden: (width,) log alpha.
        heads: (layers, heads).
        neurons: (layers, neurons).
    """
    width = len(hidden)
    per_head = (4 * width**2 + 4 * width) // heads.shape[1]
    open_hidden = open_probability(hidden).sum()
    attention = open_hidden * open_probability(heads).sum() * per_head / width
    return attention + 2 * open_hidden * open_probability(neurons).sum()


def _prunable(width: int, neurons: int, heads: int, layers: int) -> int:
    per_head = (4 * width**2 + 4 * width) // heads
    return layers * (per_head * heads + 2 * width * neurons + width + neurons)


def _settled(log_alpha: Tensor, *, kept: int) -> Tensor:
    return soft_gates(log_alpha) * highest(log_alpha, kept)


def check_tinyclip_l0(path: Path) -> None:
    """Sampled and settled gates, probabilities, expected size, and the Lagrangian with its gradients."""
    a = _read(path)
    log_alpha = {
        kind: a[f"loga_{kind}"].clone().requires_grad_() for kind in ("hidden", "heads", "intermediate")
    }
    for kind, values in log_alpha.items():
        _output(sampled_gates(values, a[f"u_{kind}"]).reshape(-1), a[f"z_train_{kind}"].reshape(-1))
        _output(open_probability(values), a[f"score_{kind}"])
        settled = torch.stack(
            [_settled(row, kept=expected_kept(row)) for row in values.reshape(-1, values.shape[-1])]
        )
        _output(settled.reshape(-1), a[f"z_eval_{kind}"].reshape(-1))
    sizes = [int(a[name]) for name in ("hidden", "inter", "heads", "layers")]
    prunable = _prunable(*sizes)
    assert prunable == int(a["prunable_size"])
    assert int(a["params_per_head"]) * sizes[2] == 4 * sizes[0] ** 2 + 4 * sizes[0]
    assert int(a["params_per_mlp_layer"]) == 2 * sizes[0] * sizes[1] + sizes[0] + sizes[1]
    expected = _expected(log_alpha["hidden"], log_alpha["heads"], log_alpha["intermediate"])
    _loss(expected, a["expected_params"])
    start = [torch.full(values.shape, float(a["init_loga"])) for values in log_alpha.values()]
    _loss(1 - _expected(*start) / prunable, a["init_expected_sparsity"])
    multipliers = [a[f"lambda_{number}"].float().requires_grad_() for number in (1, 2)]
    loss = torch.zeros(())
    for number, step in enumerate(a["lag_steps"].tolist()):
        goal = goal_at(step, start=float(a["start"]), target=float(a["target"]), ramp=float(a["warmup"]))
        removed = 1 - expected / prunable
        loss = size_penalty(removed, goal, linear=multipliers[0], quadratic=multipliers[1])
        _loss(goal, a["target_sparsity"][number])
        _loss(removed, a["expected_sparsity"][number])
        _loss(loss, a["lag_loss"][number])
    loss.backward()
    for kind, values in log_alpha.items():
        _gradient(values.grad, a[f"g_loga_{kind}"])
    for number, multiplier in enumerate(multipliers, start=1):
        _gradient(multiplier.grad, a[f"g_lambda_{number}"])
    _check_kept(a)


def _check_kept(a: Arrays) -> None:
    """Weights that the settled gates keep; the authors' own count reads other names and misses them."""
    width, heads = int(a["hidden"]), int(a["heads"])
    hidden = int((a["z_eval_hidden"] != 0).sum())
    kept_heads = (a["z_eval_heads"] != 0).reshape(-1, heads).sum(dim=1)
    neurons = (a["z_eval_intermediate"] != 0).reshape(len(kept_heads), -1).sum(dim=1)
    kept = int((hidden * (4 * (width // heads) * kept_heads + 2 * neurons)).sum())
    assert kept == int(a["kept_weight_params_discrete"])
    ours = 1 - kept / int(a["prunable_size"])
    assert abs(ours - float(a["official_calculate_model_size_sparsity"])) > 0.1


def check_tinyclip_l0joint(path: Path) -> None:
    """One constraint over both towers; multipliers averaged over them."""
    a = _read(path)
    log_alpha = {
        side: [
            a[f"{side}_loga_{kind}"].clone().requires_grad_() for kind in ("hidden", "heads", "intermediate")
        ]
        for side in ("image", "text")
    }
    expected = {side: _expected(*values) for side, values in log_alpha.items()}
    prunable = {side: _prunable(*a[f"{side}_dims"].tolist()) for side in log_alpha}
    for side in log_alpha:
        _loss(expected[side], a[f"{side}_expected_params"])
        assert prunable[side] == int(a[f"{side}_prunable"])
    removed = 1 - (expected["image"] + expected["text"]) / sum(prunable.values())
    goal = goal_at(
        float(a["step"]), start=float(a["start"]), target=float(a["target"]), ramp=float(a["warmup"])
    )
    lambdas = {side: a[f"{side}_lambdas"].float().requires_grad_() for side in log_alpha}
    linear, quadratic = (lambdas["image"] + lambdas["text"]) / 2
    loss = size_penalty(removed, goal, linear=linear, quadratic=quadratic)
    loss.backward()
    _loss(removed, a["expected_sparsity"])
    _loss(goal, a["target_at_step"])
    _loss(loss, a["loss"])
    for side, values in log_alpha.items():
        for kind, value in zip(("hidden", "heads", "intermediate"), values, strict=True):
            _gradient(value.grad, a[f"{side}_g_{kind}"])
        _gradient(lambdas[side].grad, a[f"{side}_g_lambda"])


NAMES = {  # the authors' name inside a block -> ours
    "ln_1": "norm_attention",
    "attn.in_proj_": "attention.qkv.",
    "attn.out_proj": "attention.out",
    "ln_2": "norm_feed_forward",
    "mlp.c_fc": "feed_forward.enter",
    "mlp.c_proj": "feed_forward.leave",
}


def _ours(name: str) -> str:
    for theirs, own in NAMES.items():
        if name.startswith(theirs):
            return own + name.removeprefix(theirs)
    raise AssertionError(name)


def _block_weights(a: Arrays, start: str, separator: str = "_") -> Arrays:
    """The tensors of one block by our names."""
    inner = {name.removeprefix(start): value for name, value in a.items() if name.startswith(start)}
    if separator == ".":
        return {_ours(name): value for name, value in inner.items()}
    flat = {theirs.replace(".", "_"): own for theirs, own in NAMES.items()}
    found: Arrays = {}
    for name, value in inner.items():
        key = next(key for key in flat if name.startswith(key))
        rest = name.removeprefix(key).lstrip("_")
        found[f"{flat[key].rstrip('.')}.{rest}"] = value
    return found


def _kept(gates: Gates) -> KeptUnits:
    assert gates.hidden is not None and gates.heads is not None and gates.neurons is not None
    heads, neurons = (
        tuple(torch.nonzero(one).flatten() for one in kind) for kind in (gates.heads, gates.neurons)
    )
    return KeptUnits(torch.nonzero(gates.hidden).flatten(), tuple(range(len(heads))), heads, neurons)


def check_tinyclip_maskedblock(path: Path) -> None:
    """A block without gates, under gates, and cut to what the gates leave."""
    a = _read(path)
    x, hidden = a["x"].transpose(0, 1), a["hidden_z"]  # (batch, length, width)
    width, heads, neurons = x.shape[2], int(a["n_heads"]), len(a["intermediate_z"])
    sizes: dict[str, Any] = {"head_dim": width // heads, "activation": "gelu"}
    block = Block(width, heads=heads, neurons=neurons, **sizes)
    block.load_state_dict(_block_weights(a, "w_"))
    _output(
        block(x, mask=None, gates=LayerGates(), with_attention=False)[0], a["y_dense_nomask"].transpose(0, 1)
    )
    mask = torch.full((x.shape[1], x.shape[1]), -math.inf).triu(1)
    gates = LayerGates(hidden=hidden, heads=a["heads_z"], neurons=a["intermediate_z"])
    gated = block(x * hidden, mask=mask, gates=gates, with_attention=False)[0]
    _output(gated, a["y_masked_causal"].transpose(0, 1))
    assert torch.equal(hidden != 0, a["keep"])
    kept = _kept(Gates(hidden, (a["heads_z"],), (a["intermediate_z"],)))
    config = TextConfig(width=width, depth=1, head_dim=width // heads, heads=(heads,), neurons=(neurons,))
    weights = {f"layers.blocks.0.{name}": value for name, value in block.state_dict().items()}
    units = Units(config, dict(layer_axes(config)), {name: tuple(w.shape) for name, w in weights.items()})
    cut = units.cut(weights, kept, gates=Gates(hidden, (a["heads_z"],), (a["intermediate_z"],)))
    smaller = Block(len(kept.hidden), heads=len(kept.heads[0]), neurons=len(kept.neurons[0]), **sizes)
    smaller.load_state_dict({name.removeprefix("layers.blocks.0."): value for name, value in cut.items()})
    for name, theirs in _block_weights(a, "p_").items():
        _output(smaller.state_dict()[name], theirs)
    x = (x * hidden)[..., hidden != 0]
    ours = smaller(x, mask=mask, gates=LayerGates(), with_attention=False)[0]
    _output(ours, a["y_pruned_causal"].transpose(0, 1))
    _output(gated[..., hidden != 0], a["y_pruned_causal"].transpose(0, 1))


def check_tinyclip_tower(path: Path) -> None:
    """An image tower under gates equals the tower that is cut; the authors' cut scales the projection too."""
    a = _read(path)
    start = "sd.visual."
    width, heads = len(a["hidden_z"]), int(a["n_heads"])
    depth, patch = len(a["heads_z"]), int(a["patch"])
    neurons = a["intermediate_z"].shape[-1]
    config = VitConfig(
        width=width,
        depth=depth,
        head_dim=width // heads,
        heads=(heads,) * depth,
        neurons=(neurons,) * depth,
        patch=patch,
        resolution=a["image"].shape[-1],
    )
    tower = Vit(config, dim=a[f"{start}proj"].shape[1])
    weights = {
        "cls": a[f"{start}class_embedding"].view(1, 1, -1),
        "positions": a[f"{start}positional_embedding"][None],
        "patch.weight": a[f"{start}conv1.weight"].flatten(1),
        "project.weight": a[f"{start}proj"].T,
        **{
            f"{ours}.{kind}": a[f"{start}{theirs}.{kind}"]
            for ours, theirs in (("norm_before", "ln_pre"), ("norm_after", "ln_post"))
            for kind in ("weight", "bias")
        },
    }
    for layer in range(depth):
        block = _block_weights(a, f"{start}transformer.resblocks.{layer}.", ".")
        weights |= {f"layers.blocks.{layer}.{name}": value for name, value in block.items()}
    tower.load_state_dict(weights)
    gates = Gates(
        hidden=a["hidden_z"],
        heads=tuple(a["heads_z"].reshape(depth, heads)),
        neurons=tuple(a["intermediate_z"].reshape(depth, neurons)),
    )
    with torch.no_grad():
        gated = tower(a["image"], gates=gates).embedding
    _output(gated, a["y_masked"])
    units, kept = tower.units, _kept(gates)
    assert units is not None
    smaller = Vit(
        VitConfig(
            width=len(kept.hidden),
            depth=depth,
            head_dim=width // heads,
            heads=tuple(map(len, kept.heads)),
            neurons=tuple(map(len, kept.neurons)),
            patch=patch,
            resolution=config.resolution,
        ),
        dim=a[f"{start}proj"].shape[1],
    )
    smaller.load_state_dict(units.cut(dict(tower.named_parameters()), kept, gates=gates))
    with torch.no_grad():
        ours = smaller(a["image"]).embedding
    _output(ours, a["y_pruned_exact"])
    torch.testing.assert_close(ours, gated, rtol=0, atol=1e-6)
    assert float((ours - a["y_pruned_official"]).abs().max()) > 0.01, "their defect is not shared"
    settled = _settled(a["sd.l0_module.hidden_loga"], kept=int((a["hidden_z"] != 0).sum()))
    _output(settled, a["hidden_z"])


def check_tinyclip_inherit(path: Path) -> None:
    """Every inherited weight comes from the entry of the teacher that the authors take."""
    a = _read(path)
    sizes = {
        side: {name: int(a[f"{side}_{name}"]) for name in ("width", "heads", "layers")}
        for side in ("teacher", "student")
    }
    teacher, student = sizes["teacher"], sizes["student"]
    head_dim = teacher["width"] // teacher["heads"]
    weights = {
        f"layers.blocks.{layer}.{name}": value
        for layer in range(teacher["layers"])
        for name, value in _block_weights(a, f"t.resblocks.{layer}.", ".").items()
    }
    depth = teacher["layers"]
    neurons = len(weights["layers.blocks.0.feed_forward.enter.bias"])
    config = TextConfig(
        width=teacher["width"],
        depth=depth,
        head_dim=head_dim,
        heads=(teacher["heads"],) * depth,
        neurons=(neurons,) * depth,
    )
    units = Units(config, dict(layer_axes(config)), {name: tuple(w.shape) for name, w in weights.items()})
    size = TowerSize(width=student["width"], depth=student["layers"], heads=student["heads"])
    ours = units.cut(weights, first_units(units, size, rule="official", side="text"))
    for layer in range(student["layers"]):
        for name, value in _block_weights(a, f"s.resblocks.{layer}.", ".").items():
            assert torch.equal(ours.pop(f"layers.blocks.{layer}.{name}"), value), name
    assert not ours
