"""Is it worth moving a pretrained backbone? Heads only, low-rank additions, and the last layers trained, over the same pictures and sentence encoder.

The emoji protocol of docs/results.md with equal samples; pictures are read from the store of `pretrained`, so that only the text side costs. Needs
`make frozen`. Writes results/backbone_tuning.json. Run: FRUGALCLIP_PACKS=... python benchmarks/backbone_tuning.py [--seeds 3] [--samples 12000] [--jobs 2]
"""

from _common import compared, options, read_all

ARMS = ("text_heads", "text_lora", "text_partial")


def main() -> None:
    """Train what is missing and write the record."""
    chosen = options(__doc__ or "", "../backbone_tuning", seeds=3, samples=12_000, jobs=2)
    read_all(ARMS[:1])
    compared(ARMS, chosen, reference="text_heads", samples=chosen.samples)


if __name__ == "__main__":
    main()
