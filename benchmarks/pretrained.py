"""The value of pretrained backbones on the emoji pack: fitted heads, and heads trained by contrast.

Six seeds, every style held out in turn, the same frozen backbones under both kinds of heads. Evaluated on
unseen concepts of the test split (docs/log.md records how often it was used). Needs `make frozen`. The
backbones encode the images of all styles first, into the cache folder (FRUGALCLIP_CACHE), which takes
minutes; trials then take seconds. Writes results/pretrained.json.
Run: FRUGALCLIP_PACKS=... python benchmarks/pretrained.py [--seeds 6] [--jobs 2]
"""

from _common import EMOJI, RESULTS, compared, encode_all, options, record

from frugalclip.comparison.protocol import read_protocol
from frugalclip.core.yaml_text import read_yaml

SEEN_ALL_NAMES = {
    "where": "split=train,is_flag=false",
    "pool": "all",
    "description": "seen concepts in the unseen style, among all names",
}
GOALS = (("unseen", 22.0), ("seen", 42.0), ("unseen-all-names", 5.0))  # percent, means over folds and seeds


def main() -> None:
    """Train what is missing and write the records."""
    chosen = options(__doc__ or "", "../pretrained", seeds=6, jobs=2)
    encode_all(["pretrained"])
    protocol = read_protocol(
        EMOJI, {"metrics": {**read_yaml(EMOJI)["metrics"], "seen-all-names": SEEN_ALL_NAMES}}
    )
    found = compared(
        ["pretrained", "pretrained_heads"], chosen, reference="pretrained_heads", protocol=protocol
    )
    reached = [
        (f"pretrained, {name}", found["metrics"][name]["arms"]["pretrained"]["value"], goal, "at least")
        for name, goal in GOALS
    ]
    record(
        RESULTS / "pretrained.json",
        {"metrics": {name: found["metrics"][name]["arms"]["pretrained"] for name, _ in GOALS}},
        reached,
    )


if __name__ == "__main__":
    main()
