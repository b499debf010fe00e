"""FLAME's three arms on the emoji pack: facets of a frozen language model, one prompt, a trained tower.

Image tower, pixels, views, batch and samples are the same in all. The language model encodes every name once,
into the cache folder (FRUGALCLIP_CACHE). Needs `make frozen`. Writes results/facets.json.
Run: FRUGALCLIP_PACKS=... python benchmarks/facets.py [--seeds 3] [--samples 16000] [--jobs 2]
"""

from _common import compared, encode_all, options

ARMS = ("plain", "flame_single", "flame_facets")


def main() -> None:
    """Train what is missing and write the record."""
    chosen = options(__doc__ or "", "../facets", seeds=3, samples=16_000, jobs=2)
    encode_all(ARMS[1:])
    compared(ARMS, chosen, reference="plain", samples=chosen.samples)


if __name__ == "__main__":
    main()
