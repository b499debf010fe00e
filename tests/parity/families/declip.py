"""DeCLIP: heads, SimSiam, masked words, the neighbour queue and the sum of all terms.

Source of the arrays: Sense-GVT/DeCLIP commit 5d99a855 on a CPU in float32; the proper ring queue from an
independent evaluation. Tolerances: 1e-5, gradients 2e-5, queue contents 1e-6.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.types import Dims, Features, Tokens, TowerOutput
from frugalclip.functional import unit
from frugalclip.objectives.masked_text import IGNORED, mask_tokens, masked_text_loss
from frugalclip.objectives.masked_text import Config as MaskedTextConfig
from frugalclip.objectives.multiview import Config as MultiviewConfig
from frugalclip.objectives.multiview import Multiview
from frugalclip.objectives.neighbours import Config as NeighboursConfig
from frugalclip.objectives.neighbours import Neighbours, nearest_rows
from frugalclip.objectives.simsiam import Config as SimSiamConfig
from frugalclip.objectives.simsiam import SimSiam, simsiam_loss
from frugalclip.towers.heads.projection import ProjectionHead

Arrays = dict[str, Tensor]
PROJECTOR = {"linear1": 0, "bn1": 1, "linear2": 3, "bn2": 4, "linear3": 6, "bn3": 7}
PREDICTOR = {"linear1": 0, "bn1": 1, "layer2": 3}


def _read(path: Path) -> Arrays:
    return {
        name: torch.from_numpy(np.asarray(value)) for name, value in np.load(path, allow_pickle=False).items()
    }


def _close(ours: Tensor | None, theirs: Tensor, atol: float = 1e-5) -> None:
    assert ours is not None
    torch.testing.assert_close(
        ours.detach().reshape(theirs.shape).to(theirs.dtype), theirs, rtol=0, atol=atol
    )


def _fill(head: ProjectionHead, a: Arrays, prefix: str, places: dict[str, int]) -> None:
    """Put the arrays' weights into a head."""
    state = {}
    for name, value in a.items():
        kind, _, entry = name.removeprefix(f"{prefix}.").partition(".")
        if name.startswith(f"{prefix}.") and kind in places:
            state[f"{places[kind]}.{entry}"] = value
    head.load_state_dict(state)


def _heads(a: Arrays) -> tuple[ProjectionHead, ProjectionHead]:
    hidden, inside = len(a["proj.linear1.bias"]), len(a["pred.linear1.bias"])
    projector = ProjectionHead(
        [a["proj.linear1.weight"].shape[1], hidden, hidden, len(a["proj.linear3.bias"])], last_norm=True
    )
    predictor = ProjectionHead([a["pred.linear1.weight"].shape[1], inside, len(a["pred.layer2.bias"])])
    _fill(projector, a, "proj", PROJECTOR)
    _fill(predictor, a, "pred", PREDICTOR)
    return projector, predictor


def check_declip_simsiam(path: Path) -> None:
    """Negative cosine of both directions; projections get no gradient."""
    a = _read(path)
    p1, z1, p2, z2 = (a[name].clone().requires_grad_() for name in ("p1", "z1", "p2", "z2"))
    loss = simsiam_loss((p1, z1), (p2, z2))
    loss.backward()
    _close(loss, a["loss"])
    _close(p1.grad, a["grad_p1"], 2e-5)
    _close(p2.grad, a["grad_p2"], 2e-5)
    assert int(a["grad_z_is_zero"]) == 1
    assert z1.grad is None
    assert z2.grad is None


def check_declip_heads(path: Path) -> None:
    """Projector and predictor with batch statistics, and the running statistics after one call."""
    a = _read(path)
    projector, predictor = _heads(a)
    x = a["x"].clone().requires_grad_()
    z = projector(x)
    p = predictor(z)
    loss = p.square().mean() + z.pow(3).mean()
    loss.backward()
    for ours, name in ((z, "z"), (p, "p"), (loss, "probe_loss")):
        _close(ours, a[name])
    _close(x.grad, a["grad_x"], 2e-5)
    for prefix, head, places in (("proj", projector, PROJECTOR), ("pred", predictor, PREDICTOR)):
        for name, place in places.items():
            for entry in ("running_mean", "running_var"):
                if f"after.{prefix}.{name}.{entry}" in a:
                    _close(head.state_dict()[f"{place}.{entry}"], a[f"after.{prefix}.{name}.{entry}"])


def _queue(bank: Tensor) -> Neighbours:
    """A queue that is full of given rows, as the authors begin."""
    queue = Neighbours(NeighboursConfig(size=len(bank)), Dims(8, 8, bank.shape[1], 10, 8, (2, 2), 4))
    queue.push(bank)
    return queue


def _walk(a: Arrays) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Neighbours of both texts and the bank, step by step; a look-up finds the bank as before the step."""
    queue, found = _queue(a["bank_init"]), []
    for text, augmented in zip(a["text"], a["text_aug"], strict=True):
        near, near_augmented = nearest_rows(text, queue.bank), nearest_rows(augmented, queue.bank)
        queue.push(augmented)
        queue.push(text)
        found.append((near, near_augmented, queue.bank.clone()))
    return found


def check_declip_nn_queue_properfifo(path: Path) -> None:
    """The ring queue: neighbours and every slot after every step."""
    a = _read(path)
    for step, (text, augmented, bank) in enumerate(_walk(a)):
        _close(text, a["nn_text"][step], 1e-6)
        _close(augmented, a["nn_text_aug"][step], 1e-6)
        _close(bank, a["bank_after"][step], 1e-6)


def _walk_as_released(a: Arrays) -> list[tuple[Tensor, Tensor, Tensor, int]]:
    """The walk with the defect of the released queue: what overflows its end is dropped, and it goes to 0."""
    bank, pointer, found = a["bank_init"].clone(), 0, []
    for text, augmented in zip(a["text"], a["text_aug"], strict=True):
        near, near_augmented = nearest_rows(text, bank), nearest_rows(augmented, bank)
        for rows in (augmented, text):
            fitting = rows[: len(bank) - pointer]
            bank[pointer : pointer + len(fitting)] = fitting
            pointer = pointer + len(rows) if pointer + len(rows) < len(bank) else 0
        found.append((near, near_augmented, bank.clone(), pointer))
    return found


def check_declip_nn_queue(path: Path) -> None:
    """The released queue drops what overflows its end; ours agrees until the first overflow and keeps it."""
    a = _read(path)
    for step, (near, near_augmented, bank, pointer) in enumerate(_walk_as_released(a)):
        _close(near, a["nn_text"][step], 1e-6)
        _close(near_augmented, a["nn_text_aug"][step], 1e-6)
        _close(bank, a["bank_after"][step], 1e-6)
        assert pointer == int(a["ptr_after"][step])
    size, batch, steps = len(a["bank_init"]), a["text"].shape[1], a["text"].shape[0]
    ours = _walk(a)
    pushes = [(step, push) for step in range(steps) for push in range(2)]
    overflow = next((step for number, (step, _) in enumerate(pushes, 1) if number * batch > size), steps)
    for step in range(min(overflow + 1, steps)):  # look-ups come before the insertion that overflows
        _close(ours[step][0], a["nn_text"][step], 1e-6)
        _close(ours[step][1], a["nn_text_aug"][step], 1e-6)
    for step in range(overflow):
        _close(ours[step][2], a["bank_after"][step], 1e-6)
    last = torch.cat([row for step in range(steps) for row in (a["text_aug"][step], a["text"][step])])[-size:]
    held = ours[-1][2]
    assert {tuple(row) for row in last.tolist()} <= {tuple(row) for row in held.tolist()}, (
        "the last rows, all of them, are in our ring"
    )
    if size % batch and overflow < steps:
        assert not torch.equal(held, a["bank_after"][-1]), "the defect is not shared"


def check_declip_mlm(path: Path) -> None:
    """The rules of masking on the authors' sample and on ours; the loss over masked places and gradients."""
    a = _read(path)
    tokens, labels, mask = a["tokens"], a["labels"], int(a["mask_id"])
    vocabulary, special = int(a["vocab_size"]), torch.tensor([mask, int(a["sot_id"]), int(a["eot_id"])])
    assert vocabulary == len(a["head_weight"])
    assert mask in a["masked_tokens"][labels != IGNORED]
    lengths = (tokens != 0).sum(dim=1)
    config = MaskedTextConfig()
    draws = torch.rand(
        400, len(tokens), 3 * tokens.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    ours = [
        mask_tokens(Tokens(tokens, lengths), one, config=config, mask=mask, vocabulary=vocabulary)
        for one in draws
    ]
    for ids, chosen in [(a["masked_tokens"], labels), *[(one.ids, one.labels) for one in ours]]:
        assert ids is not None
        assert chosen is not None
        is_chosen = chosen != IGNORED
        assert torch.equal(chosen[is_chosen], tokens[is_chosen])
        assert not torch.isin(tokens[is_chosen], special).any()
        assert not (tokens[is_chosen] == 0).any()
        assert torch.equal(ids[~is_chosen], tokens[~is_chosen])
    words = (~torch.isin(tokens, special) & (tokens != 0)).sum() * len(ours)
    picked = torch.stack([one.labels != IGNORED for one in ours if one.labels is not None])
    assert abs(picked.sum() / words - 0.15) < 0.01
    became = torch.stack([one.ids for one in ours if one.ids is not None])[picked]
    was = tokens.expand(len(ours), -1, -1)[picked]
    assert abs((became == mask).float().mean() - 0.8) < 0.02
    assert abs((became == was).float().mean() - 0.1) < 0.02
    hidden, weight = a["hidden"].clone().requires_grad_(), a["head_weight"].clone().requires_grad_()
    total, guesses, _ = masked_text_loss(hidden, labels, weight, a["head_bias"])
    (total / guesses).backward()
    assert int(guesses) == int(a["n_masked"])
    _close(total / guesses, a["loss"])
    _close(hidden.grad, a["grad_hidden"], 2e-5)
    _close(weight.grad, a["grad_head_weight"], 2e-5)


def check_declip_total(path: Path) -> None:
    """All five terms on given features, their weighted sum, the queue afterwards, and every gradient."""
    a = _read(path)
    names = ("image_feat_1", "image_feat_2", "text_feat", "text_feat_aug", "word_hidden", "log_logit_scale")
    f1, f2, g, augmented, hidden, log_scale = (a[name].clone().float().requires_grad_() for name in names)
    dim = f1.shape[1]
    dims = Dims(dim, hidden.shape[2], dim, len(a["mlm.bias"]), hidden.shape[1], (2, 2), len(f1))
    images = {name: TowerOutput(None, f, f) for name, f in (("main", f1), ("second", f2))}
    texts = {name: TowerOutput(None, t, t) for name, t in (("caption", g), ("augmented", augmented))}
    views = Features(images, texts, log_scale.exp().reshape(()))
    multiview = Multiview(MultiviewConfig(), dims)
    queue = Neighbours(NeighboursConfig(size=len(a["bank_init"])), dims)
    queue.push(a["bank_init"])
    simsiam = SimSiam(
        SimSiamConfig(hidden=len(a["proj.linear1.bias"]), bottleneck=len(a["pred.linear1.bias"])), dims
    )
    simsiam.projector, simsiam.predictor = _heads(a)
    clip = multiview(views)
    terms = {"w_clip": clip.loss, "w_nn": queue(views).loss, "w_simsiam": simsiam(views).loss}
    guessed, guesses, _ = masked_text_loss(hidden, a["mlm_labels"], a["mlm.weight"], a["mlm.bias"])
    terms["w_mlm"] = guessed / guesses
    total = sum((float(a[name]) * term for name, term in terms.items()), torch.zeros(()))
    total.backward()
    queue.after_step(views)
    for name, ours in (
        ("v1_t", "main-caption"),
        ("v2_t", "second-caption"),
        ("v1_taug", "main-augmented"),
        ("v2_taug", "second-augmented"),
    ):
        _close(clip.logs[ours], a[f"clip_{name}"])
    for name, theirs in (
        ("w_clip", "clip_loss"),
        ("w_nn", "nn_loss"),
        ("w_simsiam", "simsiam_loss"),
        ("w_mlm", "mlm_loss"),
    ):
        _close(terms[name], a[theirs])
    _close(total, a["total"])
    _close(queue.bank, a["bank_after"])
    gradients = (
        "grad_image_1",
        "grad_image_2",
        "grad_text",
        "grad_text_aug",
        "grad_word_hidden",
        "grad_log_logit_scale",
    )
    for leaf, name in zip((f1, f2, g, augmented, hidden, log_scale), gradients, strict=True):
        _close(leaf.grad, a[name], 2e-5)
    assert torch.allclose(unit(f1).norm(dim=1), torch.ones(len(f1)))
