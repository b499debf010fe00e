"""What borrowed trunks are worth on the emoji pack: fitted heads, and heads trained by contrast, on what the same frozen trunks say.

Six seeds, every style left out in turn; unseen concepts of the test part are judged (how often it was read: docs/log.md). Needs `make frozen`. The
trunks read the pictures of all styles first, into the cache folder (FRUGALCLIP_CACHE), which takes minutes; trials then take seconds. Writes
results/borrowed.json. Run: FRUGALCLIP_PACKS=... python benchmarks/borrowed.py [--seeds 6] [--jobs 2]
"""

from _common import EMOJI, RESULTS, compared, options, read_all, record

from frugalclip.comparison.protocol import read_protocol
from frugalclip.core.config import read_yaml

SEEN_ALL_NAMES = {
    "where": "split=train,is_flag=false",
    "pool": "all",
    "description": "seen concepts in the unseen style, among all names",
}
GOALS = (
    ("unseen", 22.0),
    ("seen", 42.0),
    ("unseen-all-names", 5.0),
)  # percent, means over rotations and seeds


def main() -> None:
    """Train what is missing and write the records."""
    chosen = options(__doc__ or "", "../borrowed", seeds=6, jobs=2)
    read_all(["borrowed"])
    protocol = read_protocol(
        EMOJI, {"figures": {**read_yaml(EMOJI)["figures"], "seen-all-names": SEEN_ALL_NAMES}}
    )
    found = compared(["borrowed", "borrowed_heads"], chosen, reference="borrowed_heads", protocol=protocol)
    reached = [
        (f"borrowed, {name}", found["figures"][name]["arms"]["borrowed"]["value"], goal, "at least")
        for name, goal in GOALS
    ]
    record(
        RESULTS / "borrowed.json",
        {"figures": {name: found["figures"][name]["arms"]["borrowed"] for name, _ in GOALS}},
        reached,
    )


if __name__ == "__main__":
    main()
