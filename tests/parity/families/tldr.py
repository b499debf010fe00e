"""TL;DR: the vector quantiser, whitening before clustering, and the selection of rows.

Source of the arrays: the official repository datacentric.vlp on a CPU in float32. Tolerance rtol 1e-5; Gram
matrices of whitened rows rtol and atol 1e-3; selections exact.
"""

from pathlib import Path

import numpy as np
import torch

from frugalclip.curation.clusters import every_nth, whitened
from frugalclip.curation.thresholds import highest_rows
from frugalclip.functional import Convention, code_perplexity, codebook_loss, nearest_codes, quantised

CONVENTIONS: tuple[Convention, ...] = ("legacy", "standard")


def check_tldr_vq(path: Path) -> None:
    """Codes, quantised features, loss and both gradients in both conventions, and perplexity."""
    a = {name: torch.from_numpy(np.asarray(value)) for name, value in np.load(path).items()}
    for convention in CONVENTIONS:
        z, codebook = (a[name].clone().requires_grad_() for name in ("z", "codebook"))
        codes = nearest_codes(z.detach(), codebook.detach())
        assert torch.equal(codes.flatten(), a["idx"].flatten())
        loss = codebook_loss(z, codebook, codes, beta=float(a["beta"]), convention=convention)
        output = quantised(z, codebook, codes)
        (loss + (output * a["upstream"]).sum()).backward()
        torch.testing.assert_close(loss.double(), a[f"loss_{convention}"], rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(output.detach(), a[f"zq_{convention}"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(z.grad, a[f"grad_z_{convention}"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(codebook.grad, a[f"grad_codebook_{convention}"], rtol=1e-5, atol=1e-6)
        used = code_perplexity(codes, len(codebook))
        torch.testing.assert_close(used, a["perplexity"].double(), rtol=1e-5, atol=0)


def check_tldr_pcaw(path: Path) -> None:
    """Gram matrices of whitened features and of whitened code numbers, and rows of length one."""
    a = np.load(path)
    for name, gram in (("X", "gram_features"), ("codes", "gram_codes")):
        rows = whitened(a[name].astype(np.float64), int(a["pca"]))
        np.testing.assert_allclose(rows @ rows.T, a[gram], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), a["rownorm"], rtol=1e-5)


def check_tldr_select(path: Path) -> None:
    """Every N-th member of each cluster, the half with the highest scores, and both together."""
    a = np.load(path)
    selected = every_nth(a["labels"], int(a["N"]))
    np.testing.assert_array_equal(selected, a["selected"])
    rows = len(a["itm"])
    mask, _ = highest_rows(a["itm"].astype(np.float64), (rows // 2) / rows, draws=np.arange(rows) / rows)
    np.testing.assert_array_equal(np.flatnonzero(mask), np.sort(a["half"]))
    np.testing.assert_array_equal(selected[mask[selected]], a["kept"])
