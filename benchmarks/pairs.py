"""How many times fewer pairs `frugal` needs for what open_clip reaches on all of them (DeCLIP's own claim: 7.1).

The emoji comparison on an eighth, a quarter and half of the families, equal samples seen everywhere, so that data varies and not computing;
open_clip is trained on all pairs only, since its figure there is all that is asked of it. What was expected before anything was run: a factor between
2 and 4. Unseen concepts of the test part are judged (how often it was read: docs/log.md). Runs of benchmarks/emoji.py are taken from there.
Run: FRUGALCLIP_PACKS=... python benchmarks/pairs.py [--seeds 3] [--samples 16000] [--jobs 2]
"""

from _common import compared, options

ARMS = ("open_clip", "frugal")


def main() -> None:
    """Train what is missing and write the record."""
    chosen = options(__doc__ or "", "../pairs", seeds=3, samples=16_000, jobs=2)
    found = compared(
        ARMS,
        chosen,
        reference="open_clip",
        samples=chosen.samples,
        fractions="1/8,1/4,1/2,1",
        full_data=["open_clip"],
        folder="emoji",
    )
    print(f"data efficiency: {found['data_efficiency']['arms']['frugal']['words']}")


if __name__ == "__main__":
    main()
