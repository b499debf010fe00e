"""The data efficiency of `frugal` against open_clip on all pairs (DeCLIP's own claim: 7.1).

The emoji comparison on an eighth, a quarter and half of the families. Every run sees equally many samples, so
that data varies and compute does not. open_clip is trained on all pairs only, since no other value of it is
needed. Expected before the runs: a factor between 2 and 4. Evaluated on unseen concepts of the test split
(docs/log.md records how often it was used). Runs of benchmarks/emoji.py are reused.
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
