"""NMTune: a step with every term and gradient, spectra of features, symmetric label noise.

Source of the arrays: the official repository Noisy-Model-Learning on a CPU in float32. Losses rtol 1e-5,
gradients rtol 1e-4 and atol 1e-6, values from the formula rtol 1e-9 in float64, noisy labels exact.
"""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from frugalclip.adaptation.nmtune import (
    NMTuneWeights,
    ResidualMLP,
    consistency_loss,
    covariance_loss,
    dominant_share,
    nmtune_terms,
)
from frugalclip.adaptation.spectra import Centre, spectrum
from frugalclip.data.planted_noise import uniform_labels

PREPARED: dict[str, tuple[bool, Centre]] = {
    "raw": (False, "none"),
    "l2": (True, "none"),
    "l2_rowcentered": (True, "row"),
    "l2_colcentered": (True, "column"),
    "colcentered": (False, "column"),
}


def check_nmtune_case(path: Path) -> None:
    """One step of the official variant, and both forms of the terms from the formula."""
    a = dict(np.load(path, allow_pickle=False))
    network, head = _modules(a)
    inputs = torch.cat([torch.from_numpy(a["x_weak"]), torch.from_numpy(a["x_strong"])])
    outputs = network(inputs)
    outputs.retain_grad()
    logits = head(outputs)
    labels = torch.from_numpy(a["labels"]).repeat(2)
    weights = NMTuneWeights(*(float(a[name]) for name in ("w_mse", "w_cov", "w_svd")))
    terms = nmtune_terms(outputs, logits, inputs, labels, weights=weights)
    terms.total.backward()
    np.testing.assert_allclose(outputs.detach(), a["mlp_out"], rtol=1e-5, atol=1e-5)
    wanted = {"ce": terms.cross_entropy, "mse": terms.mse, "cov": terms.cov, "svd_top5mean": terms.dominant}
    wanted |= {"total": terms.total, "sigma1_ratio": dominant_share(outputs, largest=1)}
    for name, value in wanted.items():
        np.testing.assert_allclose(value.item(), a[name], rtol=1e-5, err_msg=name)
    first = network.network[0]
    assert isinstance(first, nn.Linear)
    gradients = {"mlp_out": outputs, "head_weight": head.weight, "scale": network.scale}
    for name, tensor in {**gradients, "mlp0_weight": first.weight}.items():
        np.testing.assert_allclose(tensor.grad, a[f"grad_{name}"], rtol=1e-4, atol=1e-6, err_msg=name)
    _check_formulas(a, torch.from_numpy(a["mlp_out"]).double(), inputs.double())
    assert terms.total.isfinite()


def _modules(a: dict[str, np.ndarray]) -> tuple[ResidualMLP, nn.Linear]:
    state = {
        name.removeprefix("state."): torch.from_numpy(a[name]) for name in a if name.startswith("state.")
    }
    width = a["x_weak"].shape[1]
    network = ResidualMLP(width, ratio=int(a["ratio"]), layers=int(a["layers"]))
    own = {
        re.sub("^mlp_after", "network", name.removeprefix("image_encoder.")).replace(
            "scale_after", "scale"
        ): x
        for name, x in state.items()
        if name.startswith("image_encoder.")
    }
    network.load_state_dict(own)
    head = nn.Linear(width, len(state["classification_head.bias"]))
    head.load_state_dict({part: state[f"classification_head.{part}"] for part in ("weight", "bias")})
    return network, head


def _check_formulas(a: dict[str, np.ndarray], outputs: Tensor, inputs: Tensor) -> None:
    """The paper's forms: every row against its own features; the largest singular value alone."""
    mse = consistency_loss(outputs, inputs).item()
    width = outputs.shape[1]
    found = {"mse_mean_all": mse, "mse_sum_mean_over_samples": mse * width}
    found |= {"cov": covariance_loss(outputs).item(), "svd": -dominant_share(outputs, largest=1).item()}
    for name, value in found.items():
        np.testing.assert_allclose(value, a[f"formula_{name}"], rtol=1e-9, err_msg=name)


def check_nmtune_spectrum(path: Path) -> None:
    """Singular values, entropy, the largest ratio, of five preparations; theirs within their randomness."""
    a = dict(np.load(path, allow_pickle=False))
    features = torch.from_numpy(a["X"])
    assert len(a["labels"]) == len(features)
    for name, (l2, centre) in PREPARED.items():
        found = spectrum(features, l2=l2, centre=centre)
        np.testing.assert_allclose(found.values, a[f"sv_{name}"], rtol=1e-9, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(found.entropy, a[f"sve_{name}"], rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(found.largest_ratio, a[f"lsvr_{name}"], rtol=1e-9, err_msg=name)
    official = spectrum(features, centre="row").values
    np.testing.assert_allclose(official, a["official_singular_values"], atol=1e-4)


def check_nmtune_labelnoise(path: Path) -> None:
    """The same labels as the authors' calls of the legacy generator."""
    a = np.load(path, allow_pickle=False)
    ratio, seed = float(a["ratio"]), int(a["seed"])
    found = uniform_labels(a["labels"], classes=int(a["num_classes"]), ratio=ratio, seed=seed)
    np.testing.assert_array_equal(found.labels, a["noisy"])
    assert found.is_planted.sum() == np.ceil(ratio * len(a["labels"]))
    assert (found.labels == a["labels"])[~found.is_planted].all()
