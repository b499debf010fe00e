"""Claim: 1 million captions x 5,000 concepts are counted in under 5 minutes and 4 GB, equal to a plain scan.

Captions have 4 to 14 words of 60,000, drawn by Zipf's law. Concepts have one to three words. The command runs
as a user runs it, on a manifest. Its time is from start to exit, its memory the peak of the process. The scan
looks up every caption's own words and shares no code with the index. Smaller sizes show the growth.
Run: python benchmarks/concepts.py [--rows 1000000] [--concepts 5000]
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from _common import options, record

from frugalclip.data.manifest import image_places, make_manifest

WORDS = 60_000
_LETTERS = "bcdfgklmnprtvz"
_VOWELS = "aiou"


def invented_words(count: int) -> list[str]:
    """Words of syllables that no dictionary knows, so that each is its own dictionary form."""
    found = []
    for number in range(count):
        word = ""
        while number or not word:
            number, place = divmod(number, len(_LETTERS) * len(_VOWELS))
            word += _LETTERS[place // len(_VOWELS)] + _VOWELS[place % len(_VOWELS)]
        found.append(f"x{word}x")
    return found


def drawn_captions(words: list[str], rows: int) -> list[str]:
    """Captions by Zipf's law."""
    random = np.random.default_rng(0)
    lengths = random.integers(4, 15, rows)
    ranks = np.minimum(random.zipf(1.15, int(lengths.sum())), len(words)) - 1
    ends = np.cumsum(lengths)
    starts = ends - lengths
    return [
        " ".join(words[rank] for rank in ranks[start:end].tolist())
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def drawn_concepts(words: list[str], count: int) -> list[str]:
    """Concepts of one to three words, frequent and rare ones."""
    random = np.random.default_rng(1)
    found: dict[str, None] = {}
    while len(found) < count:
        ranks = np.minimum(random.zipf(1.15, random.integers(1, 4)), len(words)) - 1
        found.setdefault(" ".join(words[rank] for rank in dict.fromkeys(ranks.tolist())))
    return list(found)


def scanned(captions: list[str], concepts: list[str]) -> dict[str, int]:
    """Counts by a scan: concepts by their rarest word, tried on every caption that holds it."""
    found_in = Counter(word for caption in captions for word in set(caption.split()))
    by_rarest: dict[str, list[tuple[str, frozenset[str]]]] = {}
    for concept in concepts:
        words = concept.split()
        by_rarest.setdefault(min(words, key=lambda word: found_in[word]), []).append(
            (concept, frozenset(words))
        )
    counts: Counter[str] = Counter()
    for caption in captions:
        own = set(caption.split())
        for word in own:
            counts.update(name for name, needed in by_rarest.get(word, ()) if needed <= own)
    return {concept: counts[concept] for concept in concepts}


def measured(folder: Path, captions: list[str], concepts: list[str]) -> dict[str, Any]:
    """One run of the command, and whether it counts what the scan counts."""
    ids = [f"{row:07d}" for row in range(len(captions))]
    manifest = make_manifest(
        ids=ids,
        images=image_places(ids),
        captions=[[text] for text in captions],
        root=folder,
        name="captions",
    )
    manifest.write(folder / "captions.parquet")
    (folder / "concepts.txt").write_text("\n".join(concepts))
    out = folder / "counts.json"
    command = ["audit", "concepts", "captions.parquet", "--classes", "concepts.txt", "--json", str(out)]
    timed = (
        "import sys, resource; from frugalclip.cli import main; code = main(sys.argv[1:]); "
        "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", timed, *command], cwd=folder, capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {name: counts["text"] for name, counts in json.loads(out.read_text())["concepts"].items()}
    wanted = scanned(captions, concepts)
    return {
        "rows": len(captions),
        "concepts": len(concepts),
        "seconds": seconds,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_gb": int(done.stdout.rsplit("peak ", 1)[1]) / 1e6,
        "hits": sum(found.values()),
        "equal_to_scan": found == wanted,
    }


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__ or "", "concepts", rows=1_000_000, concepts=5_000)
    words = invented_words(WORDS)
    captions, concepts = drawn_captions(words, chosen.rows), drawn_concepts(words, chosen.concepts)
    sizes = sorted({max(chosen.rows // 100, 1), max(chosen.rows // 10, 1), chosen.rows})
    results = []
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            results.append(measured(Path(folder), captions[:rows], concepts))
        print(json.dumps(results[-1]), flush=True)
    last, what = results[-1], f"of {chosen.rows:,} captions x {chosen.concepts:,} concepts"
    goals = [
        (f"seconds {what}", last["seconds"], 300, "at most"),
        (f"peak GB {what}", last["peak_gb"], 4, "at most"),
        ("runs that equal a scan", sum(one["equal_to_scan"] for one in results), len(sizes), "at least"),
    ]
    record(chosen.json, {"runs": results}, goals)


if __name__ == "__main__":
    main()
