"""Claim: a million captions and a million image hashes are searched for duplicates in 3 minutes and 4 GB.

Captions are synthetic sentences, of which 5 % repeat another one with a word changed; hashes are random, of
which 5 % differ from another one in at most 3 bits. Peer for captions: datasketch (MinHash of 128
permutations, LSH at 0.8) on at most `peer` rows, in CPU seconds a row. The image pass measures JPEGs of 256
pixels. Times are CPU seconds of one thread.
Run: python benchmarks/curate.py [--rows 1000000] [--peer 10000] [--images 500]
"""

import random
import time
from collections.abc import Callable

import numpy as np
from _common import options, record, resident
from datasketch import MinHash, MinHashLSH
from decoding import photo

from frugalclip.curation.image_hashes import ImageHashes, pairs_among
from frugalclip.curation.measures import measured
from frugalclip.curation.near_texts import near_text_keepers

WORDS = 20_000


def sentences(rows: int) -> list[str]:
    """Captions of 6 to 14 words, some of them another one with one word more."""
    draw = random.Random(0)
    vocabulary = [
        "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randrange(3, 9))) for _ in range(WORDS)
    ]
    texts = [" ".join(draw.choices(vocabulary, k=draw.randrange(6, 15))) for _ in range(rows)]
    for row in range(0, rows - 1, 20):
        texts[row] = f"{texts[row + 1]} too"
    return list(dict.fromkeys(texts))


def hashes(rows: int) -> ImageHashes:
    """Random hashes, some of them another one with up to three bits changed."""
    draw = np.random.default_rng(0)
    whole = draw.integers(0, 2**64, (rows, 2), dtype=np.uint64, endpoint=False)
    twins = np.arange(0, rows - 1, 20)
    whole[twins] = whole[twins + 1]
    for _ in range(3):
        whole[twins, draw.integers(0, 2, len(twins))] ^= np.uint64(1) << draw.integers(
            0, 64, len(twins), dtype=np.uint64
        )
    return ImageHashes(whole, whole[:, None])


def seconds(run: Callable[[], object]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def datasketch_of(texts: list[str]) -> None:
    index = MinHashLSH(threshold=0.8, num_perm=128)
    for row, text in enumerate(texts):
        minhash = MinHash(num_perm=128)
        minhash.update_batch([text[i : i + 5].encode() for i in range(max(len(text) - 4, 1))])
        index.query(minhash)
        index.insert(row, minhash)


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__ or "", "curate", rows=100_000, peer=5_000, images=300)
    growth = {}
    for rows in sorted({max(chosen.rows // 10, 1), chosen.rows}):
        texts, own = sentences(rows), hashes(rows)
        order = np.arange(len(texts))
        found: dict[str, float] = {
            "captions": seconds(lambda texts=texts, order=order: near_text_keepers(texts, order, least=0.8)),
            "hashes": seconds(lambda own=own: pairs_among(own)),
            "gigabytes": resident("VmHWM") / 1e9,
        }
        growth[rows] = found
    files = [photo(256, np.random.default_rng(seed)) for seed in range(32)]
    images = chosen.images / seconds(lambda: [measured(files[i % 32]) for i in range(chosen.images)])
    peer = seconds(lambda: datasketch_of(sentences(chosen.peer))) / chosen.peer
    last = growth[chosen.rows]
    spent = 1_000_000 / chosen.rows * (last["captions"] + last["hashes"])
    goals = [
        (
            "CPU seconds of a million captions and hashes",
            spent,
            360,
            "at most",
        ),
        ("gigabytes", last["gigabytes"], 4, "at most"),
        ("images a second of the image pass", images, 350, "at least"),
        ("times as fast as datasketch a caption", peer / (last["captions"] / chosen.rows), 1, "at least"),
    ]
    note = "3 minutes on two cores are 360 CPU seconds; fewer rows than a million are scaled by their number"
    record(chosen.json, {"growth": growth, "datasketch_seconds_a_row": peer, "note": note}, goals)


if __name__ == "__main__":
    main()
