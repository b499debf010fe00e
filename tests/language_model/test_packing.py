"""Packed rows: who sees whom, where tokens stand, and which rows share a pass."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frugalclip.language_model.packing import batches, facet_positions, facet_visibility, pack

MIDDLES, OPENING, FACETS = [[5, 6, 7], [8], [5, 6, 7, 8, 9]], [1, 2], [[11, 12], [13], [14, 15, 16]]


def test_visibility_matches_the_rule_written_as_loops():
    packed = pack(OPENING, MIDDLES, FACETS)
    part = [0] * packed.prefix + [k for k, facet in enumerate(FACETS, 1) for _ in facet]
    visible = facet_visibility(packed.is_token, prefix=packed.prefix, facets=packed.facets)
    for row, is_token in enumerate(packed.is_token.tolist()):
        for i in range(len(part)):
            for j in range(len(part)):
                seen = is_token[i] and is_token[j] and j <= i and part[j] in (0, part[i])
                assert visible[row, i, j] == seen, (row, i, j)


def test_padding_stands_between_opening_and_middle_and_sees_itself_only_for_attention():
    packed = pack(OPENING, MIDDLES, FACETS, pad=99)
    assert packed.ids[1].tolist() == [1, 2, 99, 99, 99, 99, 8, 11, 12, 13, 14, 15, 16]
    assert packed.is_token[1].tolist() == [True] * 2 + [False] * 4 + [True] * 7
    assert packed.ids[0, packed.ends].tolist() == [12, 13, 16]
    padding = ~packed.is_token
    strict = facet_visibility(packed.is_token, prefix=packed.prefix, facets=packed.facets)
    assert not strict[padding].any()
    assert not strict.transpose(1, 2)[padding].any()
    extra = packed.visible() ^ strict
    assert torch.equal(extra, torch.diag_embed(padding))
    assert packed.visible().any(dim=2).all()


def test_positions_start_again_behind_the_prefix_or_count_on():
    packed = pack(OPENING, MIDDLES, FACETS)
    assert packed.positions("reset")[1].tolist() == [0, 1, 0, 0, 0, 0, 2, 3, 4, 3, 3, 4, 5]
    assert packed.positions("sequential")[1].tolist() == [0, 1, 0, 0, 0, 0, 2, 3, 4, 5, 6, 7, 8]
    one = facet_positions(torch.ones(1, 6, dtype=torch.bool), prefix=4, facets=[2], mode="reset")
    assert one[0].tolist() == list(range(6))


def test_one_facet_is_a_plain_causal_mask():
    visible = facet_visibility(torch.ones(2, 7, dtype=torch.bool), prefix=4, facets=[3])
    assert torch.equal(visible, torch.ones(7, 7, dtype=torch.bool).tril().expand(2, -1, -1))


def test_lengths_that_do_not_fill_the_row_are_our_own_mistake():
    with pytest.raises(AssertionError, match="do not fill rows of 7"):
        facet_visibility(torch.ones(1, 7, dtype=torch.bool), prefix=4, facets=[2])


@given(st.lists(st.integers(1, 40), max_size=30).map(sorted), st.integers(1, 100))
def test_batches_cover_every_row_once_and_hold_what_fits(lengths: list[int], tokens: int):
    found = list(batches(lengths, tokens=tokens))
    assert [i for part in found for i in range(part.start, part.stop)] == list(range(len(lengths)))
    for part in found:
        rows = lengths[part]
        assert rows
        assert len(rows) == 1 or len(rows) * rows[-1] <= tokens
