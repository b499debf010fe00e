"""Build the sample that ships inside the package from a folder of packs.

    python scripts/build_sample.py PACKS [OUT]

PACKS holds `emoji-noto.tar`, `emoji-twemoji.tar`, `emoji-openmoji.tar`, `clipart.tar` and `photos.tar`
(WebDataset: KEY.webp, KEY.txt, KEY.json). Images keep their bytes. The names of the emoji are written once,
since all styles share them. Of the clip art, whole components (near duplicates and shared captions) are taken
in the order of a hash until the budget is spent, the same share of every split, so that no component is cut.
Photos are taken whole and stay on their white square: cropping would encode them a second time, and the bytes
would depend on the version of the encoder. Their field `box` is the crop. The same packs give the same bytes.
"""

import hashlib
import json
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

STYLES = ("noto", "twemoji", "openmoji")
CLIPART_BYTES = 4_000_000  # of encoded images
LARGEST_COMPONENT = 60  # the over-merged component of 1,939 would leave room for little else
LIMIT = 16_000_000  # bytes in the package, the licences included
SHARED = (
    "concept",
    "name",
    "keywords",
    "category",
    "subcategory",
    "skin_tone",
    "is_flag",
    "family",
    "split",
    "compositional",
    "languages",
)
CLIPART = ("title", "description", "keywords", "category", "subcategory", "component", "split")
PHOTOS = (
    "group",
    "category",
    "keywords",
    "captions_en",
    "licence",
    "attribution",
    "box",
    "component",
    "split",
)
MAP = pa.map_(pa.string(), pa.list_(pa.string()))


def read_pack(path: Path) -> dict[str, dict[str, Any]]:
    """Key -> `{"webp": bytes, "txt": text, "json": object}`, sorted by key."""
    samples: dict[str, dict[str, Any]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is not None:
                key, _, extension = member.name.partition(".")
                samples.setdefault(key, {})[extension] = file.read()
    for sample in samples.values():
        sample["txt"], sample["json"] = sample["txt"].decode().strip(), json.loads(sample["json"])
    return dict(sorted(samples.items()))


def write(table: pa.Table, path: Path) -> None:
    """Pictures stay as they are, in groups small enough for random access; everything else is compressed."""
    has_images = "image" in table.column_names
    others = [
        leaf for field in table.schema if field.name != "image" for leaf in leaves(field.type, field.name)
    ]
    options: dict[str, Any] = {
        "row_group_size": 256 if has_images else None,
        "compression": dict.fromkeys(others, "zstd") | ({"image": "none"} if has_images else {}),
        "use_dictionary": others,
        "write_statistics": others,
    }
    pq.write_table(table, path, **options)


def leaves(kind: pa.DataType, name: str) -> list[str]:
    """Parquet's names of the columns that a column is stored as."""
    if pa.types.is_map(kind):
        return [
            *leaves(kind.key_type, f"{name}.key_value.key"),
            *leaves(kind.item_type, f"{name}.key_value.value"),
        ]
    return leaves(kind.value_type, f"{name}.list.element") if pa.types.is_list(kind) else [name]


def names_table(samples: dict[str, dict[str, Any]]) -> pa.Table:
    """The names of the concepts, sorted by concept."""
    rows = sorted((sample["json"] for sample in samples.values()), key=lambda row: row["concept"])
    captions = {sample["json"]["concept"]: sample["txt"] for sample in samples.values()}
    columns: dict[str, Any] = {key: [row[key] for row in rows] for key in SHARED}
    table = pa.table(
        {
            key: pa.array(values, pa.string() if key == "skin_tone" else None)
            for key, values in columns.items()
        }
    )
    table = table.append_column("captions", pa.array([[captions[row["concept"]]] for row in rows]))
    by_language = [[(language, [text]) for language, text in sorted(row["captions"].items())] for row in rows]
    return table.append_column("captions_by_language", pa.array(by_language, MAP))


def check_shared(styles: dict[str, dict[str, dict[str, Any]]]) -> None:
    """The names are stored once: stop if a style disagrees."""
    reference = {sample["json"]["concept"]: sample for sample in styles[STYLES[0]].values()}
    for style, samples in styles.items():
        if {sample["json"]["concept"] for sample in samples.values()} != reference.keys():
            raise SystemExit(f"{style} draws other concepts than {STYLES[0]}")
        for key, sample in samples.items():
            other = reference[sample["json"]["concept"]]
            different = [
                name for name in (*SHARED, "captions") if sample["json"][name] != other["json"][name]
            ]
            if different or sample["txt"] != other["txt"]:
                raise SystemExit(f"{key} disagrees with {STYLES[0]} in {different or 'the caption'}")


def clipart_slice(samples: dict[str, dict[str, Any]], budget: int) -> list[str]:
    """Keys of whole components, in the order of a hash, the same share of the bytes of every split."""
    components: dict[str, list[str]] = {}
    for key, sample in samples.items():
        components.setdefault(sample["json"]["component"], []).append(key)
    size = {name: sum(len(samples[key]["webp"]) for key in keys) for name, keys in components.items()}
    split_of = {name: samples[keys[0]]["json"]["split"] for name, keys in components.items()}
    total = sum(size.values())
    chosen: list[str] = []
    for split in sorted(set(split_of.values())):
        own = [name for name in components if split_of[name] == split]
        left = budget * sum(size[name] for name in own) // total
        names = [name for name in own if len(components[name]) <= LARGEST_COMPONENT]
        for name in sorted(names, key=lambda name: hashlib.blake2b(name.encode()).digest()):
            if size[name] <= left:
                left -= size[name]
                chosen += components[name]
    return sorted(chosen)


def pack_table(
    samples: dict[str, dict[str, Any]], fields: tuple[str, ...], keys: Sequence[str] | None = None
) -> pa.Table:
    """Some or all pictures of a pack with these fields; an empty text, and an absent field, is null."""
    keys = list(samples) if keys is None else keys
    rows = [samples[key]["json"] for key in keys]
    columns: dict[str, Any] = {
        "id": keys,
        "image": [samples[key]["webp"] for key in keys],
        "captions": [[samples[key]["txt"]] for key in keys],
    }
    for name in fields:
        values = [row.get(name) for row in rows]
        columns[name] = [None if value == "" else value for value in values]
    return pa.table(columns)


def build(packs: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    styles = {style: read_pack(packs / f"emoji-{style}.tar") for style in STYLES}
    check_shared(styles)
    write(names_table(styles[STYLES[0]]), out / "emoji-names.parquet")
    for style, samples in styles.items():
        ordered = sorted(samples.values(), key=lambda sample: sample["json"]["concept"])
        columns = {
            "concept": [sample["json"]["concept"] for sample in ordered],
            "image": [sample["webp"] for sample in ordered],
        }
        write(pa.table(columns), out / f"{style}.parquet")
    clipart = read_pack(packs / "clipart.tar")
    chosen = clipart_slice(clipart, CLIPART_BYTES)
    write(pack_table(clipart, CLIPART, chosen), out / "clipart.parquet")
    write(pack_table(read_pack(packs / "photos.tar"), PHOTOS), out / "photos.parquet")
    total = 0
    for path in sorted(out.iterdir()):
        total += path.stat().st_size
        print(
            f"{path.stat().st_size:>12,} bytes  "
            f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}  {path.name}"
        )
    if total > LIMIT:
        raise SystemExit(f"{total:,} bytes in all, more than {LIMIT:,}")
    print(f"{total:>12,} bytes in all")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    build(
        Path(sys.argv[1]),
        Path(sys.argv[2])
        if len(sys.argv) == 3
        else Path(__file__).resolve().parents[1] / "src/frugalclip/sample",
    )
