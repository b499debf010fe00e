"""Several processes against one.

Sources of the arrays: open_clip commit 89fb801f, SLIP commit c6faf5d0, two gloo processes. Real processes run
our objectives on their own rows. The truth is one process on all rows; `g` is the gradient of a rank's own
loss with respect to its own rows, before averaging over processes, so `g / W` has to be the truth. Tolerance:
losses 1e-5, gradients 1e-5 absolute.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from frugalclip.functional import unit
from frugalclip.objectives.simclr import nt_xent_loss

TEMPERATURE = 0.1  # of SimCLR in the arrays; not among them
INPUTS = ("image_embed", "text_embed", "logit_scale", "aug1", "aug2")  # what the processes read
_results: dict[bytes, dict[str, np.ndarray]] = {}
WORKER = Path(__file__).resolve().parents[1] / "distributed_worker.py"


def check_clip_distributed(path: Path) -> None:
    """Contrastive, sigmoid and SimCLR equal one process, unlike SLIP's gather and open_clip's default."""
    a = np.load(path, allow_pickle=False)
    ours = _run(path, processes=len(a["image_embed"]))
    world = len(a["image_embed"])

    np.testing.assert_allclose(ours["contrastive__loss"].mean(), a["single_loss"], atol=1e-5)
    np.testing.assert_allclose(ours["contrastive__g1"] / world, a["single_grad_image"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours["contrastive__g2"] / world, a["single_grad_text"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours["contrastive__gscale"].mean(), a["single_grad_scale"], atol=1e-5)
    for part in ("loss", "g1", "g2", "gscale"):  # the same split over processes as open_clip's exact mode
        np.testing.assert_allclose(
            ours[f"contrastive__{part}"], a[f"openclip_local1_gathergrad1__{part}"], rtol=0, atol=1e-5
        )
    for part in ("g1", "g2"):  # its other exact mode has the same sum
        np.testing.assert_allclose(
            ours[f"contrastive__{part}"] / world,
            a[f"openclip_local0_gathergrad1__{part}"] / world,
            rtol=0,
            atol=1e-5,
        )

    np.testing.assert_allclose(ours["sigmoid__loss"].mean(), a["siglip_single_loss"], atol=1e-5)
    np.testing.assert_allclose(ours["sigmoid__g1"] / world, a["siglip_single_grad_image"], rtol=0, atol=1e-5)
    for part in ("loss", "g1", "g2", "gscale"):
        np.testing.assert_allclose(ours[f"sigmoid__{part}"], a[f"siglip_gather__{part}"], rtol=0, atol=1e-5)

    first, second = (torch.from_numpy(a[name]).flatten(0, 1).requires_grad_() for name in ("aug1", "aug2"))
    loss, _ = nt_xent_loss(unit(first), unit(second), temperature=TEMPERATURE)
    loss.backward()
    np.testing.assert_allclose(ours["simclr__loss"].mean(), loss.item(), atol=1e-5)
    for part, leaf in (("g1", first), ("g2", second)):
        assert leaf.grad is not None
        whole = leaf.grad.view(a["aug1"].shape).numpy()
        np.testing.assert_allclose(ours[f"simclr__{part}"] / world, whole, rtol=0, atol=1e-5)
    for part in ("loss", "g1", "g2"):
        np.testing.assert_allclose(
            ours[f"simclr__{part}"], a[f"slip_simclr_grad_gather__{part}"], rtol=0, atol=1e-5
        )

    _check_other_modes(a, ours)


def _check_other_modes(a: np.lib.npyio.NpzFile, ours: dict[str, np.ndarray]) -> None:
    """What each mode computes: losses and gradients of the scale are right in all, those of rows in few."""
    world = len(a["image_embed"])
    for mode in ("openclip_local0_gathergrad0", "openclip_local0_gathergrad1"):  # every rank scores all rows
        np.testing.assert_allclose(a[f"{mode}__loss"], np.full(world, a["single_loss"]), rtol=0, atol=1e-5)
        np.testing.assert_allclose(
            a[f"{mode}__gscale"], np.full(world, a["single_grad_scale"]), rtol=0, atol=1e-5
        )
    for part, name in (("g1", "image"), ("g2", "text")):  # the truth, which averaging then divides
        np.testing.assert_allclose(
            a[f"openclip_local0_gathergrad0__{part}"], a[f"single_grad_{name}"], rtol=0, atol=1e-5
        )
    for mode in ("openclip_local1_gathergrad0", "slip_clip_nograd_gather"):
        for part in ("loss", "gscale"):
            np.testing.assert_allclose(a[f"{mode}__{part}"], ours[f"contrastive__{part}"], rtol=0, atol=1e-5)
    for part in ("g1", "g2"):  # two codes with the same bias
        np.testing.assert_allclose(
            a[f"openclip_local1_gathergrad0__{part}"],
            a[f"slip_clip_nograd_gather__{part}"],
            rtol=0,
            atol=1e-5,
        )
    for biased in ("openclip_local1_gathergrad0", "slip_clip_nograd_gather", "openclip_local0_gathergrad0"):
        for part in ("g1", "g2"):
            assert np.abs(ours[f"contrastive__{part}"] - a[f"{biased}__{part}"]).max() > 1e-3, (
                f"our gather has the defect of {biased}"
            )


def _run(path: Path, *, processes: int) -> dict[str, np.ndarray]:
    """What the processes compute, stacked by rank; once for the same inputs, since they take seconds."""
    a = np.load(path, allow_pickle=False)
    key = b"".join(a[name].tobytes() for name in INPUTS)
    if key not in _results:
        _results[key] = _run_processes(path, processes=processes)
    return _results[key]


def _run_processes(path: Path, *, processes: int) -> dict[str, np.ndarray]:
    """Start the processes, wait, and stack what they wrote by rank."""
    with TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        commands = [
            [
                sys.executable,
                str(WORKER),
                str(path.resolve()),
                str(meeting),
                str(rank),
                str(processes),
                f"{folder}/{rank}.npz",
            ]
            for rank in range(processes)
        ]
        started = [
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for command in commands
        ]
        try:
            outputs = [process.communicate(timeout=90)[0] for process in started]
        finally:
            for process in started:
                process.kill()
        assert all(process.returncode == 0 for process in started), "\n".join(outputs)
        results = [np.load(f"{folder}/{rank}.npz", allow_pickle=False) for rank in range(processes)]
        return {name: np.stack([result[name] for result in results]) for name in results[0].files}
