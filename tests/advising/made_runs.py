"""Made-up runs whose metrics follow a known rule, for the tests of predictions, durations and races."""

import math

import numpy as np

from frugalclip.advising.profile import DataProfile
from frugalclip.advising.records import AdviceRecord, ShippedRuns

GAINS = {"pretrained": 1.5, "clip-small": 0.1, "frugal": 0.4}
SECONDS = {"clip-small": 0.001, "frugal": 0.004}


def made_profile(fit: float, *, pairs: int = 1_000, queries: int = 400) -> DataProfile:
    """Data on which the fit of descriptors reaches so many percent."""
    return DataProfile(
        pairs=pairs,
        validation=queries // 2,
        queries=queries,
        metric="retrieval/mean_r1",
        chance=0.5,
        baselines={"feature_fit": fit, "feature_nn_1": 0.8 * fit, "pixel_nn_10": 0.6 * fit},
        words=2.0,
        distinct=0.9,
        side=64.0,
    )


def made_value(profile: DataProfile, route: str, samples: int | None, *, error: float = 0.0) -> float:
    """The rule: in log-odds, a route stands above the fit by its gain, and longer runs gain a little."""
    share = profile.baselines["feature_fit"] / 100
    seen = 0.0 if samples is None else 0.3 * math.log10(samples / profile.pairs)
    odds = math.log(share / (1 - share)) + GAINS[route] + seen + error
    return 100 / (1 + math.exp(-odds))


def made_runs(*, kinds: int = 8, seed: int = 0, spread: float = 0.2) -> list[AdviceRecord]:
    """Runs of three routes on data of several kinds; a kind errs as a whole."""
    draws, found = np.random.default_rng(seed), []
    for kind in range(kinds):
        error = spread * draws.standard_normal()
        for fraction in (1.0, 0.25):
            pairs = int(fraction * draws.integers(800, 4_000))
            profile = made_profile(float(draws.uniform(4, 25)), pairs=pairs)
            for route in GAINS:
                for samples in (None,) if route == "pretrained" else (4_000, 16_000):
                    seconds = 20.0 + 0.05 * pairs if samples is None else 5.0 + SECONDS[route] * samples
                    found.append(
                        AdviceRecord(
                            data=f"data {kind}",
                            kind=f"kind {kind}",
                            fraction=fraction,
                            profile=profile,
                            route=route,
                            samples=samples,
                            value=made_value(profile, route, samples, error=error),
                            seconds=seconds,
                        )
                    )
    return found


def made_shipment() -> ShippedRuns:
    """The same as they would ship."""
    return ShippedRuns(step_seconds=0.1, launch_seconds=2.0, machine="made up", runs=made_runs())
