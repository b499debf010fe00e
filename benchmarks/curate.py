"""Claim: a million captions and a million image hashes are searched for duplicates in 3 minutes and 4 GB.

Captions are synthetic sentences, of which 5 % repeat another one with a word more. Images are crops of the
pictures of a data set (turned, and with their colours exchanged), of which 5 % repeat another crop a little
shifted and darker; hashes are of their pixels. Vectors are 512 numbers about 1,000 centres, of which 5 % are
copies with noise (cosine 0.98). Rows grow tenfold from `rows` / 100.
Peers for captions on `peer` rows, in CPU seconds a row: datasketch (MinHash of 128 permutations, LSH at 0.8),
and SemHash where it is installed, with hashed n-grams as its encoder, so that nothing is downloaded.
The image pass measures JPEGs of 256 pixels. A curation of `killed` rows is killed after each stage, goes on
with `--resume`, and must end with the bytes of a whole run. Times are CPU seconds of this process.
Run: python benchmarks/curate.py [--rows 1000000] [--peer 10000] [--images 500] [--killed 200] [--data PATH]
"""

import argparse
import importlib
import importlib.util
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from _common import RESULTS, record, resident
from datasketch import MinHash, MinHashLSH
from decoding import photo
from PIL import Image
from sklearn.feature_extraction.text import HashingVectorizer

from frugalclip.core.random import uniform
from frugalclip.curation.image_hashes import ImageHashes, image_hashes, pairs_among, pairs_of_equal
from frugalclip.curation.image_vectors import ImageVectors
from frugalclip.curation.measures import measured
from frugalclip.curation.near_texts import near_text_keepers
from frugalclip.curation.semantic import SemanticSearch
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import open_data

WORDS = 20_000
SOURCES, KEPT_SIDE, SIDE = 2_000, 96, 32  # pictures that are cropped, pixels kept of them, of a thumbnail
TWINS = 20  # one row in so many repeats the row behind it
DIM, CENTRES, LEAST = 512, 1_000, 0.95
BLOCK = 10_000  # images or vectors made at once
PLAN = """
stages:
- {stage: rules, min_words: 1}
- {stage: exact_images}
- {stage: near_images}
- {stage: near_captions, similarity: 0.9}
- {stage: balance, tail_share: 0.15}
"""


def sentences(rows: int) -> list[str]:
    """Captions of 6 to 14 words, some of them another one with one word more."""
    draw = random.Random(0)
    vocabulary = [
        "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randrange(3, 9))) for _ in range(WORDS)
    ]
    texts = [" ".join(draw.choices(vocabulary, k=draw.randrange(6, 15))) for _ in range(rows)]
    for row in range(0, rows - 1, TWINS):
        texts[row] = f"{texts[row + 1]} too"
    return list(dict.fromkeys(texts))


def pictures(manifest: Manifest) -> list[Image.Image]:
    """Some pictures of a data set, small."""
    reader, found = ImageReader(manifest), []
    for row in np.linspace(0, len(manifest) - 1, min(SOURCES, len(manifest))).astype(int).tolist():
        try:
            image = reader.image(row, at_least=KEPT_SIDE)
        except BadImage:
            continue
        found.append(image.convert("RGB").resize((KEPT_SIDE, KEPT_SIDE), Image.Resampling.BILINEAR))
    return found


def crops(sources: list[Image.Image], rows: int) -> Iterator[np.ndarray]:
    """Blocks of (images, 3, 32, 32) uint8 crops, of which some repeat the one behind them."""
    draws = uniform(0, "benchmark/crops", np.arange(rows), 6)
    orders = np.array([(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (1, 0, 2), (2, 1, 0)])
    for start in range(0, rows, BLOCK):
        block = np.zeros((min(BLOCK, rows - start), 3, SIDE, SIDE), dtype=np.uint8)
        for place in range(len(block)):
            row, is_twin = start + place, (start + place) % TWINS == 0 and start + place + 1 < rows
            pick, size, across, down, turn, colour = draws[row + is_twin]
            side = KEPT_SIDE * (0.25 + 0.35 * size)
            left, top = (KEPT_SIDE - side) * across, (KEPT_SIDE - side) * down
            cut = 0.02 * side * is_twin
            box = (left + cut, top, left + side, top + side - cut)
            image = sources[int(pick * len(sources))].resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
            pixels = np.rot90(np.asarray(image), int(turn * 4))[..., orders[int(colour * 6)]]
            block[place] = np.clip(pixels - 3.0 * is_twin, 0, 255).transpose(2, 0, 1)
        yield block


class Drawn:
    """Unit vectors in a file, as a stage reads them."""

    def __init__(self, path: Path, rows: int) -> None:
        draw = np.random.default_rng(0)
        centres = draw.standard_normal((CENTRES, DIM), dtype=np.float32)
        self.values = np.memmap(path, np.float32, "w+", shape=(rows, DIM))
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            block = centres[draw.integers(0, CENTRES, count)]
            block += draw.standard_normal((count, DIM), dtype=np.float32)
            twins = np.arange(0, count - 1, TWINS)
            block[twins] = block[twins + 1] + 0.28 * draw.standard_normal((len(twins), DIM), dtype=np.float32)
            self.values[start : start + count] = block / np.linalg.norm(block, axis=1, keepdims=True)

    def __len__(self) -> int:
        return len(self.values)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """(some, dim) of some rows."""
        return np.asarray(self.values[rows])


def seconds(run: Callable[[], object]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def twins_found(pairs: tuple[np.ndarray, np.ndarray], copy_of: np.ndarray) -> float:
    """Share of the planted repeats that are among the candidates, or have the hash of the one behind them.

    Args:
        pairs: candidates.
        copy_of: (rows,) the first row with the same hash.
    """
    rows = len(copy_of)
    candidates = set(zip(*(one.tolist() for one in pairs), strict=True))
    planted = [sorted((copy_of[row], copy_of[row + 1])) for row in range(0, rows - 1, TWINS)]
    return float(np.mean([low == high or (low, high) in candidates for low, high in planted]))


def of_images(sources: list[Image.Image], rows: int) -> dict[str, float]:
    """Seconds of hashing and of the search, and what it finds."""
    hashed, parts = 0.0, []
    for block in crops(sources, rows):
        begun = time.process_time()
        parts.append(image_hashes(block))
        hashed += time.process_time() - begun
    hashes = ImageHashes(np.concatenate([p.whole for p in parts]), np.concatenate([p.crops for p in parts]))
    del parts
    begun = time.process_time()
    copy_of = np.arange(rows)
    firsts, copies = pairs_of_equal(hashes, copy_of)  # thins copies and blank pictures, as `near_images` does
    copy_of[copies] = firsts
    once = np.flatnonzero(copy_of == np.arange(rows))
    low, high = pairs_among(hashes.take(once))
    pairs = once[low], once[high]
    spent = time.process_time() - begun
    return {
        "hashing": hashed,
        "hashes": spent,
        "candidates": float(len(pairs[0])),
        "different_hashes": float(len(once)),
        "hash_recall": twins_found(pairs, copy_of),
    }


def of_vectors(rows: int) -> dict[str, float]:
    """Seconds of semantic duplicates by the paper's rule, and the share of planted ones that goes."""
    with tempfile.TemporaryDirectory() as folder:
        vectors = Drawn(Path(folder) / "vectors", rows)
        every, codes = np.arange(rows), np.arange(rows, dtype=np.uint64)
        begun = time.process_time()
        read_alone = cast(ImageVectors, vectors)  # the search calls nothing but read()
        search = SemanticSearch(read_alone, codes, least=LEAST, clusters=None, seed=0)
        first = search.clustering(every)
        keepers, _ = search.keepers(every, np.argsort(first.cosines, kind="stable"), first)
        spent = time.process_time() - begun
    gone, planted = keepers != every, np.arange(0, rows - 1, TWINS)
    recall = (gone[planted] | gone[planted + 1]).mean()
    return {"semantic": spent, "semantic_recall": float(recall), "semantic_gone": float(gone.mean())}


def datasketch_of(texts: list[str]) -> None:
    index = MinHashLSH(threshold=0.8, num_perm=128)
    for row, text in enumerate(texts):
        minhash = MinHash(num_perm=128)
        minhash.update_batch([text[i : i + 5].encode() for i in range(max(len(text) - 4, 1))])
        index.query(minhash)
        index.insert(row, minhash)


class HashedWords:
    """An encoder for SemHash that needs no weights: hashed n-grams of characters."""

    def encode(self, texts: list[str], **_: object) -> np.ndarray:
        """(texts, 512) float32."""
        counts = HashingVectorizer(n_features=512, analyzer="char_wb", ngram_range=(4, 5))
        found: Any = counts.transform(texts)
        return found.toarray().astype(np.float32)


def semhash_of(texts: list[str]) -> None:
    semhash = importlib.import_module("semhash")  # a peer that need not be there
    semhash.SemHash.from_records(texts, model=HashedWords()).self_deduplicate(threshold=0.9)


def killed_and_whole(data: str, rows: int) -> dict[str, Any]:
    """Whether a curation that is killed after each of its stages ends with the bytes of a whole one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = open_data(data)
        chosen = np.linspace(0, len(manifest) - 1, min(rows, len(manifest))).astype(int)
        manifest.take(np.unique(chosen)).write(folder / "rows.parquet")
        (folder / "plan.yaml").write_text(PLAN)
        command = [sys.executable, "-m", "frugalclip", "curate", str(folder / "rows.parquet")]
        command += ["--plan", str(folder / "plan.yaml"), "--out"]
        subprocess.run([*command, str(folder / "whole")], check=True, capture_output=True)
        steps = len(list((folder / "whole" / ".job" / "records").glob("*.json")))
        kills, same = [], []
        for step in range(steps + 1):
            out = folder / f"killed{step}"
            kills.append(_killed_at(step, [*command, str(out)], out / ".job" / "records"))
            again = ["--resume"] if out.exists() else []
            subprocess.run([*command, str(out), *again], check=True, capture_output=True)
            files = ("manifest.parquet", "rows.parquet", "ledger.parquet")
            same.append(all((out / f).read_bytes() == (folder / "whole" / f).read_bytes() for f in files))
    return {"killed_with_records": kills, "same_bytes": same}


def _killed_at(step: int, command: list[str], records: Path) -> int:
    """Kill a command when it has written so many records; the number it had then, -1 where it was done."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None:
        if records.is_dir() and (count := len(list(records.glob("*.json")))) >= step:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: the command and its workers
            process.wait()
            return count
        time.sleep(0.002)
    return -1


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("rows", 100_000), ("peer", 5_000), ("images", 300), ("killed", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--data", default="sample", help="data set whose pictures are cropped")
    parser.add_argument("--json", type=Path, default=RESULTS / "curate.json", help="record of the run")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    chosen = parsed()
    sources, growth = pictures(open_data(chosen.data)), {}
    for rows in sorted({max(chosen.rows // 100, 1), max(chosen.rows // 10, 1), chosen.rows}):
        texts = sentences(rows)
        order = np.arange(len(texts))
        found = {
            "captions": seconds(lambda texts=texts, order=order: near_text_keepers(texts, order, least=0.8))
        }
        del texts
        found |= of_images(sources, rows)
        found["gigabytes"] = resident("VmHWM") / 1e9  # the vectors below have memory of their own
        found |= of_vectors(rows)
        found["gigabytes_with_vectors"] = resident("VmHWM") / 1e9
        growth[rows] = found
        print(rows, {name: round(value, 3) for name, value in found.items()}, flush=True)
    files = [photo(256, np.random.default_rng(seed)) for seed in range(32)]
    images = chosen.images / seconds(lambda: [measured(files[i % 32]) for i in range(chosen.images)])
    texts = sentences(chosen.peer)
    peers: dict[str, float | None] = {"ours": None, "datasketch": None, "semhash": None}
    peers["ours"] = seconds(lambda: near_text_keepers(texts, np.arange(len(texts)), least=0.8)) / chosen.peer
    peers["datasketch"] = seconds(lambda: datasketch_of(texts)) / chosen.peer
    if importlib.util.find_spec("semhash") is not None:
        peers["semhash"] = seconds(lambda: semhash_of(texts)) / chosen.peer
    print({name: value for name, value in peers.items() if value is not None}, flush=True)
    stopped = killed_and_whole(chosen.data, chosen.killed)
    last, times = growth[chosen.rows], 1_000_000 / chosen.rows
    goals = [
        (
            "CPU seconds of a million captions and hashes",
            times * (last["captions"] + last["hashes"]),
            360,
            "at most",
        ),
        ("gigabytes", last["gigabytes"], 4, "at most"),
        ("share of repeated pictures among the candidates", last["hash_recall"], 0.95, "at least"),
        ("share of repeated vectors that go", last["semantic_recall"], 0.95, "at least"),
        ("images a second of the image pass", images, 350, "at least"),
        (
            "times as fast as datasketch a caption",
            (peers["datasketch"] or 0) / peers["ours"],
            1,
            "at least",
        ),
        (
            "killed runs that end with the same bytes, share",
            float(np.mean(stopped["same_bytes"])),
            1,
            "at least",
        ),
    ]
    note = "3 minutes on two cores are 360 CPU seconds; fewer rows than a million are scaled by their number"
    content = {
        "data": Path(chosen.data).name,
        "growth": growth,
        "seconds_a_caption": peers,
        "killed": stopped,
    }
    record(chosen.json, content | {"image_pass": images, "note": note}, goals)


if __name__ == "__main__":
    main()
