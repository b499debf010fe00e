"""Exact gradients of a large batch in the memory of a small one.

Source: Gao et al. 2021, arXiv 2101.06983 (GradCache), for every sum of objectives at once. Objectives see
features only. So the features of the whole batch are computed without a graph and scored, and their gradient
goes back through the towers in micro-batches. Each is encoded twice, except the last, whose graph is kept.
With k micro-batches a step costs 1 / 3 - 1 / 3k more than without the cache.

Random numbers inside a tower are drawn again: the generators return to their state before the micro-batch was
first encoded. Texts are grouped by length, so that short captions are not padded to long ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from frugalclip.core import distributed
from frugalclip.core.errors import RecipeError
from frugalclip.core.types import Batch, TowerOutput
from frugalclip.training.step import Prepared, Step, StepResult

PARTS = ("tokens", "pooled", "embedding")  # what a gradient can come back through


@dataclass
class _Piece:
    """Some rows of one view."""

    view: str
    is_image: bool
    rows: Tensor  # (rows,) int64
    state: Tensor | None = None  # of the generator before it was encoded
    kept: TowerOutput | None = None  # with its graph, of the last piece only


@dataclass
class _Pending:
    """A step between its scoring and its backward pass."""

    batch: Batch
    prepared: Prepared
    pieces: list[_Piece]
    leaves: dict[str, TowerOutput]  # view -> features of the whole batch, leaves of the scoring's graph
    gates: list[tuple[Tensor, Tensor]]  # (sampled, leaf) of every tensor of the gates


class GradientCache:
    """Runs a step in micro-batches; the gradients are those of the whole batch.

    Args:
        step: the training computation.
        micro_batch: rows that a tower encodes at a time.

    Raises:
        RecipeError: for a tower with batch normalisation, whose statistics would be those of a micro-batch.
    """

    def __init__(self, step: Step, *, micro_batch: int) -> None:
        self.step, self.micro_batch = step, micro_batch
        self._pending: _Pending | None = None
        for name, module in step.network.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                raise RecipeError(
                    f"micro_batch is {micro_batch}, but model.{name} is a batch normalisation, whose "
                    "statistics would be of "
                    f"{micro_batch} samples instead of the batch; leave micro_batch out, or choose a tower "
                    "with another normalisation."
                )

    def __call__(self, batch: Batch) -> StepResult:
        """Encode without a graph and score; the loss has a graph down to the features."""
        prepared, gates = _with_leaf_gates(self.step.prepare(batch))
        pieces = self._pieces(batch)
        parts: dict[str, list[TowerOutput]] = {}
        for piece in pieces:
            piece.state = _random_state(batch.rows.device)
            with torch.set_grad_enabled(piece is pieces[-1]):
                encoded = self._encode(batch, prepared, piece)
            piece.kept = encoded if piece is pieces[-1] else None
            parts.setdefault(piece.view, []).append(encoded)
        leaves = {
            view: _assemble(found, [p.rows for p in pieces if p.view == view])
            for view, found in parts.items()
        }
        self._pending = _Pending(batch, prepared, pieces, leaves, gates)
        needs = self.step.needs
        images, texts = (
            {name: leaves[name] for name in sorted(names)} for names in (needs.images, needs.texts)
        )
        return self.step.score(self.step.features(batch, prepared, images=images, texts=texts))

    def backward(self, loss: Tensor) -> None:
        """Fill the gradients of objectives and towers.

        Args:
            loss: () the loss of the last call, possibly multiplied.
        """
        assert self._pending is not None, "called once after each scoring"
        pending, self._pending = self._pending, None
        loss.backward()
        for piece in reversed(pending.pieces):  # the last one first: its graph is all the memory that is held
            encoded = piece.kept
            if encoded is None:
                with _replayed(piece.state, pending.batch.rows.device):
                    encoded = self._encode(pending.batch, pending.prepared, piece)
            _hand_back(encoded, pending.leaves[piece.view], piece.rows)
            piece.kept = None
        reached = [
            (sampled, leaf.grad)
            for sampled, leaf in pending.gates
            if sampled.requires_grad and leaf.grad is not None
        ]
        if reached:  # once, after all pieces: their graphs end at the leaves
            torch.autograd.backward([sampled for sampled, _ in reached], [grad for _, grad in reached])
        distributed.average_gradients(self.step.parameters())

    def _pieces(self, batch: Batch) -> list[_Piece]:
        """Texts first, so that the piece whose graph is kept is one of images, which cost more."""
        found: list[_Piece] = []
        for view in sorted(self.step.needs.texts):
            order = batch.texts[view.partition("@")[0]].by_length()
            found += [_Piece(view, False, rows) for rows in order.split(self.micro_batch)]
        everything = torch.arange(len(batch), device=batch.rows.device)
        for view in sorted(self.step.needs.images):
            found += [_Piece(view, True, rows) for rows in everything.split(self.micro_batch)]
        return found

    def _encode(self, batch: Batch, prepared: Prepared, piece: _Piece) -> TowerOutput:
        encode = self.step.encode_image if piece.is_image else self.step.encode_text
        return encode(batch, prepared, piece.view, rows=piece.rows)


def _with_leaf_gates(prepared: Prepared) -> tuple[Prepared, list[tuple[Tensor, Tensor]]]:
    """The same with gates as leaves, where the graph of every piece ends; and (sampled, leaf) of each."""
    pairs: list[tuple[Tensor, Tensor]] = []

    def leaf(sampled: Tensor) -> Tensor:
        pairs.append((sampled, sampled.detach().requires_grad_(sampled.requires_grad)))
        return pairs[-1][1]

    gates = None if prepared.gates is None else prepared.gates.map(leaf)
    return replace(prepared, gates=gates), pairs


def _assemble(parts: list[TowerOutput], rows: list[Tensor]) -> TowerOutput:
    """Features of the whole batch from its pieces, in the batch's order, as leaves."""
    back = torch.argsort(torch.cat(rows))

    def whole(name: str) -> Any:
        tensors = [tensor.detach() for part in parts if (tensor := getattr(part, name)) is not None]
        return torch.cat(tensors)[back].requires_grad_(name in PARTS) if tensors else None

    return TowerOutput(whole("tokens"), whole("pooled"), whole("embedding"), whole("attention"))


def _hand_back(encoded: TowerOutput, leaf: TowerOutput, rows: Tensor) -> None:
    """Send the gradient of some rows of the features through the graph that made them."""
    tensors, gradients = [], []
    for name in PARTS:
        tensor, whole = getattr(encoded, name), getattr(leaf, name)
        if tensor is not None and tensor.requires_grad and whole.grad is not None:
            tensors.append(tensor)
            gradients.append(whole.grad[rows])
    if tensors:
        torch.autograd.backward(tensors, gradients)


def _random_state(device: torch.device) -> Tensor:
    return torch.get_rng_state() if device.type == "cpu" else torch.cuda.get_rng_state(device)


@contextmanager
def _replayed(state: Tensor | None, device: torch.device) -> Iterator[None]:
    """Draw again what was drawn from `state` on, and leave the generator as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if state is not None:
            torch.set_rng_state(state) if device.type == "cpu" else torch.cuda.set_rng_state(state, device)
        yield
