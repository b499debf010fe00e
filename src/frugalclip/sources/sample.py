"""The pairs that come with the package: three emoji styles with the same names, Open Clip Art, and photos.

Built by `scripts/build_sample.py`; sources and licences are in `sample/LICENSES.md` beside the files.
"""

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from frugalclip.core.errors import DataError
from frugalclip.data.manifest import CAPTIONS_BY_LANGUAGE, Manifest, image_places, make_manifest
from frugalclip.data.tables import concatenate_tables

pc: Any = pyarrow.compute  # its functions are made at import, out of sight of type checkers

STYLES = ("noto", "twemoji", "openmoji")
STYLE_OF = {"clipart": "clipart", "photos": "photo"}  # the packs beside the emoji, each of one style
NAMES = "emoji-names.parquet"


def sample_folder() -> Path:
    """Where the sample lies; inside the installed package."""
    return Path(str(resources.files("frugalclip"))) / "sample"


def sample_manifest(folder: Path | None = None) -> Manifest:
    """Every pair of the sample: the styles in order, the clip art, the photos.

    A field that a pack lacks is null in its rows.

    Raises:
        DataError: when files of the package are missing.
    """
    folder = folder or sample_folder()
    try:
        names = pq.read_table(folder / NAMES)
        tables = [_emoji(folder, style, names) for style in STYLES]
        tables += [_pack(folder, pack, style) for pack, style in STYLE_OF.items()]
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"the sample in {folder} is not whole ({str(error).splitlines()[0]}); install frugalclip again."
        ) from None
    table = concatenate_tables(tables)
    fields = {
        name: table[name]
        for name in table.column_names
        if name not in ("id", "image", "captions", "captions_by_language")
    }
    return make_manifest(
        ids=table["id"],
        images=table["image"],
        captions=table["captions"],
        captions_by_language=table["captions_by_language"],
        fields=fields,
        root=folder,
        name="sample",
    )


def _emoji(folder: Path, style: str, names: pa.Table) -> pa.Table:
    """One style: its pictures in the order of its file, with the shared names of their concepts."""
    concepts = pq.read_table(folder / f"{style}.parquet", columns=["concept"])["concept"]
    table = names.take(pc.index_in(concepts, names["concept"].combine_chunks()))
    return _with_places(
        table,
        f"{style}.parquet",
        {"style": style, "pack": "emoji"},
        pc.binary_join_element_wise(pa.scalar(style), concepts, "-"),
    )


def _pack(folder: Path, pack: str, style: str) -> pa.Table:
    """A pack whose file holds everything."""
    file = pq.ParquetFile(folder / f"{pack}.parquet")
    table = file.read(columns=[name for name in file.schema_arrow.names if name != "image"])
    nothing = pa.nulls(table.num_rows, CAPTIONS_BY_LANGUAGE)
    return _with_places(
        table.append_column("captions_by_language", nothing),
        f"{pack}.parquet",
        {"style": style, "pack": pack},
        table["id"],
    )


def _with_places(table: pa.Table, file: str, constants: dict[str, str], ids: pa.ChunkedArray) -> pa.Table:
    rows = table.num_rows
    columns = {"id": ids, "image": image_places([file] * rows, rows=np.arange(rows), column="image")}
    columns |= {name: pa.repeat(pa.scalar(value), rows) for name, value in constants.items()}
    return pa.table({**columns, **{name: table[name] for name in table.column_names if name not in columns}})
