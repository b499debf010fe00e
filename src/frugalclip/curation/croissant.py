"""The rows that stay as a Croissant data set: JSON-LD that other tools find and read data by.

Source: Croissant Format Specification 1.1 of MLCommons. One resource, the manifest; one record set, its rows.
The checksum is that of the manifest as it is, so a stage that is taken back asks for a new description.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

import pyarrow as pa
import pyarrow.parquet as pq

from frugalclip.core.checksums import checksum
from frugalclip.curation.data_description import licences_of_rows
from frugalclip.curation.outputs import LEDGER, MANIFEST, Summary
from frugalclip.data.manifest import Manifest

CROISSANT = "croissant.json"
CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
REQUIRED = ("name", "description", "license", "url", "creator", "datePublished")
_RECORDS = "rows"
_ABOUT = {
    "id": "Name of the row, unique in the data set.",
    "captions": "Captions that training reads.",
    "weight": "How often training draws the row.",
}
_PLACES = {
    "path": ("sc:Text", "File that holds the image, relative to the manifest."),
    "offset": ("sc:Integer", "Where the image begins in that file, if it is a part of it."),
    "length": ("sc:Integer", "Bytes of the image, if it is a part of the file."),
    "row": ("sc:Integer", "Row of a Parquet file that holds the image."),
    "column": ("sc:Text", "Column of a Parquet file that holds the image."),
}


@final
@dataclass(frozen=True)
class Published:
    """What the rows themselves do not say about a data set."""

    name: str | None = None  # None: that of the data
    license: str | None = None  # address or SPDX name; None: the licences that all rows name
    creator: str | None = None
    url: str | None = None  # of its page


def describe_as_croissant(folder: Path, published: Published) -> dict[str, Any]:
    """The description of a finished curation; what nobody has said is left out.

    Args:
        folder: of the curation.
        published: by whom, where and under which licence.

    Raises:
        DataError: when the folder holds no finished curation.
    """
    summary, path = Summary.read(folder), folder / MANIFEST
    manifest = Manifest.read(path)
    name = published.name or f"{Path(summary.data).stem}-{summary.plan}"
    licences = [published.license] if published.license else _licences(manifest)
    known = {
        "license": licences[0] if len(licences) == 1 else licences,
        "url": published.url,
        "creator": {"@type": "sc:Organization", "name": published.creator} if published.creator else None,
    }
    return {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": name,
        "description": _description(summary),
        **{key: value for key, value in known.items() if value},
        "datePublished": datetime.now(UTC).date().isoformat(),
        "distribution": [_file(path)],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": _RECORDS,
                "name": _RECORDS,
                "description": "One record for each image and its captions.",
                "key": {"@id": f"{_RECORDS}/id"},
                "field": list(_fields(pq.read_schema(path))),
            }
        ],
    }


def missing(description: dict[str, Any]) -> list[str]:
    """Properties that the specification requires and the description lacks."""
    return [key for key in REQUIRED if key not in description]


def _description(summary: Summary) -> str:
    stages = [one.name for one in summary.stages if not one.taken_back]
    about = f" {summary.description.rstrip('.')}." if summary.description else ""
    return (
        f"{summary.kept:,} of {summary.rows:,} rows of {Path(summary.data).name}, chosen by the plan "
        f"{summary.plan} of frugalclip curate (stages: {', '.join(stages) or 'none'}).{about} {LEDGER} has "
        "the fate of every row."
    )


def _licences(manifest: Manifest) -> list[str]:
    """The licences that rows name, if all rows name one."""
    found = licences_of_rows(manifest, shown=None)
    return [] if "not named" in found else sorted(found)


def _file(path: Path) -> dict[str, Any]:
    found = checksum(path)
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "contentUrl": path.name,
        "contentSize": f"{found.bytes} B",
        "encodingFormat": "application/x-parquet",
        "sha256": found.sha256,
    }


def _fields(schema: pa.Schema) -> Iterator[dict[str, Any]]:
    """A field for each column that Croissant has a type for; the image's place is one for each part of it."""
    for column in schema:
        if column.name == "image":
            for part, (kind, about) in _PLACES.items():
                yield _field(f"image_{part}", kind, "image", about) | {
                    "source": _source("image", transform=part),
                }
            continue
        is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
        kind = _type(column.type.value_type if is_list else column.type)
        if kind is not None:
            about = _ABOUT.get(column.name, f"Column {column.name} of the manifest.")
            array = {"isArray": True, "arrayShape": "-1"} if is_list else {}
            yield _field(column.name, kind, column.name, about) | array


def _field(name: str, kind: str, column: str, about: str) -> dict[str, Any]:
    own = {"@type": "cr:Field", "@id": f"{_RECORDS}/{name}", "name": name, "description": about}
    return own | {"dataType": kind, "source": _source(column)}


def _source(column: str, *, transform: str | None = None) -> dict[str, Any]:
    found = {"fileObject": {"@id": MANIFEST}, "extract": {"column": column}}
    return found if transform is None else {**found, "transform": {"jsonPath": transform}}


def _type(kind: pa.DataType) -> str | None:
    """The data type of a column's values; None where there is none, such as for maps."""
    for matches, name in (
        (pa.types.is_string, "sc:Text"),
        (pa.types.is_large_string, "sc:Text"),
        (pa.types.is_boolean, "sc:Boolean"),
        (pa.types.is_integer, "sc:Integer"),
        (pa.types.is_floating, "sc:Float"),
        (pa.types.is_date, "sc:Date"),
        (pa.types.is_timestamp, "sc:DateTime"),
    ):
        if matches(kind):
            return name
    return None


def _context() -> dict[str, Any]:
    """The context of the specification."""
    croissant = (
        *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field"),
        *("fileProperty", "fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset"),
        *("jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated"),
        *("replace", "samplingRate", "separator", "source", "subField", "transform"),
    )
    return {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "conformsTo": "dct:conformsTo",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "description": {"@container": "@language"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "name": {"@container": "@language"},
        **{name: f"cr:{name}" for name in croissant},
    }
