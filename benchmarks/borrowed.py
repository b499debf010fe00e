"""What borrowed trunks are worth on the emoji pack: fitted heads, and heads trained by contrast, on what the same frozen trunks say.

Six seeds, every style left out in turn; unseen concepts of the test part are judged, once. Needs `make frozen`. The trunks read the pictures of all
styles first, into the cache folder (FRUGALCLIP_CACHE), which takes minutes; trials then take seconds. Writes results/borrowed.json.
Run: FRUGALCLIP_PACKS=... python benchmarks/borrowed.py [--seeds 6] [--jobs 2]
"""

import os
import tempfile
from pathlib import Path

from _common import RESULTS, options, record

from frugalclip.core.config import read_yaml
from frugalclip.core.records import write_json
from frugalclip.training.protocols import read_protocol
from frugalclip.verbs.compare import compare
from frugalclip.verbs.train import train

HERE = Path(__file__).resolve().parent
KEPT = ("answer", "reference", "primary", "rotations", "seeds", "samples", "clock", "tests", "figures", "curves", "costs", "notes", "data")
PROTOCOL = HERE / "protocols" / "emoji.yaml"
SEEN_ALL_NAMES = {"where": "split=train,is_flag=false", "pool": "all", "description": "seen concepts in the unseen style, among all names"}
GOALS = (("unseen", 22.0), ("seen", 42.0), ("unseen-all-names", 5.0))  # percent, means over rotations and seeds


def read_all(packs: str) -> None:
    """Let the trunks read every picture and text of the three styles; nothing happens where they were read before."""
    with tempfile.TemporaryDirectory() as folder:
        words = [f"data={packs}/emoji-{{noto,twemoji,openmoji}}.tar", "data.where=split=train", "data.validation=none"]
        train("borrowed", words, out=Path(folder) / "run")


def main() -> None:
    """Train what is missing and write the records."""
    chosen = options(__doc__ or "", "../borrowed", seeds=6, jobs=2)
    read_all(os.environ["FRUGALCLIP_PACKS"])
    found = compare(
        ["borrowed", str(HERE / "arms" / "borrowed_heads.yaml")],
        out=HERE.parent / "runs" / "borrowed",
        seeds=chosen.seeds,
        protocol=read_protocol(PROTOCOL, {"figures": {**read_yaml(PROTOCOL)["figures"], "seen-all-names": SEEN_ALL_NAMES}}),
        reference="borrowed_heads",
        jobs=chosen.jobs,
    )
    write_json(chosen.json, {key: found[key] for key in KEPT})
    reached = [(f"borrowed, {name}", found["figures"][name]["arms"]["borrowed"]["value"], goal, "at least") for name, goal in GOALS]
    record(RESULTS / "borrowed.json", {"figures": {name: found["figures"][name]["arms"]["borrowed"] for name, _ in GOALS}}, reached)


if __name__ == "__main__":
    main()
