"""The emoji comparison of docs/results.md: our recipes beside open_clip, as shipped and deduplicated.

Six seeds, every style held out in turn, settings from results/tuning.json, equal samples. Evaluated on unseen
concepts of the test split (docs/log.md records how often it was used). Finished trials are not trained again.
Writes results/emoji.json, results/benchmarks/time-to-accuracy.json and, with results_page.py, the page.
Run: FRUGALCLIP_PACKS=... python benchmarks/emoji.py [--seeds 6] [--samples 16000] [--jobs 2]
"""

from typing import Any

from _common import RESULTS, compared, options, record

ARMS = ("open_clip", "open_clip_deduplicated", "plain", "siglip", "default", "frugal")


def sooner(found: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """When the default recipe reaches the final value of open_clip, and the share of open_clip's run."""
    reached = found["curves"]["arms"]["default"]["reach"]
    return reached, reached["seconds"] / reached["reference_whole_seconds"]


def main() -> None:
    """Train what is missing and write the records."""
    chosen = options(__doc__ or "", "../emoji", seeds=6, samples=16_000, jobs=2)
    found = compared(ARMS, chosen, reference="open_clip", samples=chosen.samples)
    reached, share = sooner(found)
    goals = [
        (
            "seconds of the default recipe to open_clip's final validation accuracy, over open_clip's",
            share,
            0.25,
            "at most",
        )
    ]
    record(
        RESULTS / "time-to-accuracy.json",
        {"reach": reached, "seeds": chosen.seeds, "samples": chosen.samples},
        goals,
    )


if __name__ == "__main__":
    main()
