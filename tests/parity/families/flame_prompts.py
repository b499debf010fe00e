"""FLAME: captions to prompts, and the mask that packs several facets into one pass.

Sources of the arrays: `MIV-XJTU/FLAME`, `open_clip/multiprompteol_embeddings.py`, on a CPU in float32.
Strings and masks exactly, states 1e-5.
"""

import itertools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frugalclip.language_model import facet_visibility, fill_template


def check_flame_textclean(path: Path) -> None:
    """Prompts string for string; in the arrays `_` is a space of the template and `*sent_0*` the slot."""
    a = np.load(path, allow_pickle=False)
    before, after = str(a["template"]).split("*sent_0*")
    template = before.replace("_", " ") + "{}" + after.replace("_", " ")
    assert [fill_template(template, str(raw)) for raw in a["raw"]] == [str(filled) for filled in a["filled"]]


def check_flame_mask(path: Path) -> None:
    """Visibility exactly, and a small decoder that runs under it.

    The official mask lets padded rows see padding; ours differs exactly there.
    """
    a = np.load(path, allow_pickle=False)
    is_token = torch.from_numpy(a["attention_mask"]).bool()
    ends = [int(a["prefix_last"]), *map(int, a["facet_last"])]
    visible = facet_visibility(
        is_token, prefix=ends[0] + 1, facets=[stop - start for start, stop in itertools.pairwise(ends)]
    )
    np.testing.assert_array_equal(visible.numpy(), a["visible_fixed"])
    out = _decoder(a, visible | torch.diag_embed(~is_token))[:, ends[1:]]
    np.testing.assert_allclose(out.numpy(), a["out_fixed"], rtol=0, atol=1e-5)

    official = torch.from_numpy(a["visible_official"])

    leaky = _decoder(a, official)[:, ends[1:]].numpy()
    np.testing.assert_allclose(leaky, a["out_official"], rtol=0, atol=1e-5)
    is_padded = ~is_token.all(dim=1).numpy()
    leaks = (a["visible_official"] != visible.numpy()).any(axis=(1, 2))
    np.testing.assert_array_equal(leaks, is_padded)
    differs = np.abs(out.numpy() - a["out_official"]).max(axis=(1, 2)) > 1e-3
    np.testing.assert_array_equal(differs, is_padded)


def _decoder(a: np.lib.npyio.NpzFile, visible: Tensor) -> Tensor:
    """(rows, length, dim) states of the arrays' decoder: single heads, residuals, no positions, no norms."""
    states = torch.from_numpy(a["emb"])[torch.from_numpy(a["input_ids"])]
    for query, key, value in zip(*(torch.from_numpy(a[name]) for name in ("Wq", "Wk", "Wv")), strict=True):
        scores = (
            (states @ query) @ (states @ key).transpose(1, 2) / states.shape[-1] ** 0.5
        )  # (rows, length, length)
        states = states + scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(dim=-1) @ (
            states @ value
        )
    return states
