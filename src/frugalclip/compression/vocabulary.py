"""A smaller vocabulary: the rows of the token embedding that texts need, or two factors in place of it.

The token embedding is most of a small student. Rows are cut exactly: a text of which all tokens stay has the
same embedding bit for bit, and other words are spelled in smaller pieces (see `data.token_cut`). Factors are
those of the singular value decomposition, the nearest matrix of that rank.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from frugalclip.compression.rebuild import rebuilt
from frugalclip.core.config import Settings
from frugalclip.core.errors import RecipeError
from frugalclip.data.token_cut import TokenCut
from frugalclip.data.tokens import Tokenizer
from frugalclip.towers.dual import DualEncoder

_CHUNK = 100_000  # captions whose tokens are in memory at once
Kept = Literal["captions"] | Annotated[int, Field(gt=0)]


class VocabularyConfig(Settings):
    """The `vocabulary` section of a change."""

    keep: Kept | None = Field(
        None,
        description="captions: the tokens of the training captions, and what spells all other words; a "
        "number: so many tokens, the most frequent in the captions first. null: all",
    )
    rank: int | None = Field(
        None, gt=0, description="rank of the token embedding, as two factors; null: one whole matrix"
    )


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer of a network and the captions that it reads; a plan may know neither."""

    tokenizer: Tokenizer | None = None
    captions: Callable[[], Iterable[str]] | None = None

    def counts(self) -> np.ndarray | None:
        """(vocab,) how often each token stands in the captions; None where they are not known."""
        if self.tokenizer is None or self.captions is None:
            return None
        counts, remaining = np.zeros(self.tokenizer.vocabulary, dtype=np.int64), iter(self.captions())
        while chunk := list(islice(remaining, _CHUNK)):
            counts += np.bincount(self.tokenizer.table(chunk).ids, minlength=len(counts))
        return counts


def smaller_vocabulary(
    network: DualEncoder, config: VocabularyConfig, vocabulary: Vocabulary
) -> tuple[DualEncoder, Vocabulary]:
    """The network with a smaller token embedding, and the vocabulary that belongs to it.

    Where captions decide and are not known, as in a plan without data, all rows stay.

    Args:
        network: the larger one.
        config: what becomes smaller.
        vocabulary: of the network.

    Raises:
        RecipeError: for a text tower without a token embedding of its own, or sizes that save nothing.
        ModelError: for a tokenizer that cannot be cut.
    """
    if network.text.token_embedding is None:
        raise RecipeError(
            f"change.vocabulary makes the token embedding smaller, and {network.text.description} has none "
            "of its own; leave change.vocabulary out."
        )
    if config.keep is not None and vocabulary.tokenizer is not None:
        cut = TokenCut(vocabulary.tokenizer)  # one that cannot be cut is refused whatever the captions are
        if config.keep != "captions" or vocabulary.captions is not None:
            kept = sorted(chosen_tokens(cut, config.keep, counts=vocabulary.counts()))
            network, vocabulary = _with_rows(network, kept), replace(vocabulary, tokenizer=cut.cut(kept))
    if config.rank is not None:
        network = _factored(network, config.rank)
    return network, vocabulary


def chosen_tokens(cut: TokenCut, keep: Kept, *, counts: np.ndarray | None = None) -> set[int]:
    """Ids of the tokens that stay.

    Args:
        cut: of the tokenizer.
        keep: `captions`, or how many.
        counts: (vocab,) of the captions; None takes tokens in their own order.

    Raises:
        RecipeError: for fewer tokens than every text needs.
    """
    always, size = cut.always(), cut.tokenizer.vocabulary
    counts = np.zeros(size, dtype=np.int64) if counts is None else counts
    if keep == "captions":
        return cut.with_sources(np.flatnonzero(counts).tolist()) | always
    if keep < len(always):
        raise RecipeError(
            f"change.vocabulary.keep is {keep:,}, and {len(always):,} special tokens and single characters "
            f"spell what no other token does; give at least {len(always):,}."
        )
    found = set(always)
    for one in np.argsort(-counts, kind="stable").tolist():
        if len(found) >= keep:
            break
        new = cut.with_sources([one]) - found
        found |= new if len(found) + len(new) <= keep else set()
    return found


def _with_rows(network: DualEncoder, kept: list[int]) -> DualEncoder:
    """The network with these rows of its token embedding, in this order."""
    numbers = {old: new for new, old in enumerate(kept)}
    weights: dict[str, Tensor] = dict(network.text.state_dict())
    name = _name_of(network) + ".weight"
    rows = torch.tensor(kept, device=weights[name].device)
    weights[name] = weights[name].index_select(0, rows)
    text = network.config.text.renumbered(numbers).model_dump(mode="json", by_alias=True)
    return rebuilt(network, {"text": text}, {"text": weights}, vocabulary=len(kept))


def _factored(network: DualEncoder, rank: int) -> DualEncoder:
    """The network whose token embedding is the product of two factors."""
    config, lookup = network.config.text, network.text.token_embedding
    if not config.factors_tokens:
        raise RecipeError(
            f"change.vocabulary.rank factors the token embedding, which {network.text.description} does not "
            "support; leave it out, or set model.text.kind=transformer."
        )
    assert lookup is not None, "the caller refuses a tower without"
    whole = lookup.product().detach()  # (vocab, width)
    vocabulary, width = whole.shape
    if rank * (vocabulary + width) >= sum(p.numel() for p in lookup.parameters()):
        raise RecipeError(
            f"change.vocabulary.rank {rank} saves nothing of a token embedding of {vocabulary:,} rows of "
            f"{width}; give a smaller one, such as {max(1, rank // 2)}."
        )
    weights: dict[str, Tensor] = dict(network.text.state_dict())
    name = _name_of(network)
    weights[f"{name}.weight"], weights[f"{name}.widen.weight"] = factors(whole, rank)
    text = config.model_dump(mode="json", by_alias=True) | {"embedding_rank": rank}
    return rebuilt(network, {"text": text}, {"text": weights}, vocabulary=vocabulary)


def factors(whole: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors whose product is the nearest matrix of a rank.

    Args:
        whole: (vocab, width).
        rank: below the width.

    Returns:
        (vocab, rank), and (width, rank) with orthonormal columns.
    """
    if whole.is_meta:
        return whole.new_empty(len(whole), rank), whole.new_empty(whole.shape[1], rank)
    exact = whole.double()
    directions = torch.linalg.eigh(exact.T @ exact).eigenvectors.flip(1)[:, :rank]  # of the largest spread
    return (exact @ directions).to(whole), directions.to(whole)


def _name_of(network: DualEncoder) -> str:
    """The name of the token embedding in the text tower."""
    lookup = network.text.token_embedding
    return next(name for name, module in network.text.named_modules() if module is lookup)
