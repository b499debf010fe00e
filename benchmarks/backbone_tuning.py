"""Is it worth training a pretrained text backbone? Heads only, low-rank additions, and the last layers.

The emoji protocol of docs/results.md with equal samples and the same sentence encoder. Image features come
from the store of `pretrained`, so only the text side costs. Needs `make frozen`. Writes
results/backbone_tuning.json.
Run: FRUGALCLIP_PACKS=... python benchmarks/backbone_tuning.py [--seeds 3] [--samples 12000] [--jobs 2]
"""

from _common import compared, encode_all, options

ARMS = ("text_heads", "text_lora", "text_partial")


def main() -> None:
    """Train what is missing and write the record."""
    chosen = options(__doc__ or "", "../backbone_tuning", seeds=3, samples=12_000, jobs=2)
    encode_all(ARMS[:1])
    compared(ARMS, chosen, reference="text_heads", samples=chosen.samples)


if __name__ == "__main__":
    main()
