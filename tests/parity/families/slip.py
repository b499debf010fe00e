"""SLIP: NT-Xent and the SLIP total.

Source of the arrays: SLIP commit c6faf5d0 on a CPU in float32. Tolerance 1e-5.
"""

from pathlib import Path

import numpy as np
import torch

from frugalclip.functional import info_nce_loss, unit
from frugalclip.objectives.simclr import nt_xent_loss


def check_slip_simclr(path: Path) -> None:
    """Loss over both views' anchors, accuracy of the first view's, gradients, the sum with CLIP's loss."""
    a = {
        name: torch.from_numpy(np.asarray(value)) for name, value in np.load(path, allow_pickle=False).items()
    }
    first, second = (a[name].clone().requires_grad_() for name in ("aug1_embed", "aug2_embed"))
    loss, hits = nt_xent_loss(unit(first), unit(second), temperature=float(a["temperature"]))
    loss.backward()
    clip = sum(info_nce_loss(unit(a["image_embed"]), unit(a["text_embed"]), a["logit_scale"].float())) / 2
    torch.testing.assert_close(loss.detach(), a["ssl_loss"], rtol=0, atol=1e-5)
    torch.testing.assert_close(100 * hits.float().mean(), a["ssl_acc_percent"].float(), rtol=0, atol=1e-4)
    torch.testing.assert_close(first.grad, a["grad_aug1"], rtol=0, atol=1e-5)
    torch.testing.assert_close(second.grad, a["grad_aug2"], rtol=0, atol=1e-5)
    torch.testing.assert_close(clip, a["clip_loss"], rtol=0, atol=1e-5)
    torch.testing.assert_close(
        clip + float(a["ssl_scale"]) * loss.detach(), a["total_loss"], rtol=0, atol=1e-5
    )
