"""Shards of scenes: a tar of images, and a Parquet file with all that is known about them."""

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import pyarrow as pa
import pyarrow.parquet as pq

from frugalclip.core.jobs import Job, Shard, ShardTask, content_key
from frugalclip.data.manifest import Manifest, make_manifest
from frugalclip.synthetic.composing import Composer, scene_id
from frugalclip.synthetic.cutouts import Cutouts
from frugalclip.synthetic.plan import ScenePlan
from frugalclip.synthetic.rendering import EXTENSIONS
from frugalclip.synthetic.truth import SCHEMA

FORMAT = 1
_KEY = b"frugalclip.scenes"  # in the schema of a shard's Parquet file
_FOLDER = "shards"


@final
@dataclass(frozen=True)
class SceneTask(ShardTask[range]):
    """Composes the scenes of one shard."""

    composer: Composer
    key: str  # of the plan and its cut-outs

    def make(self, shard: Shard[range], folder: Path) -> dict[str, Any]:
        (folder / _FOLDER).mkdir()
        tar, table = compose_shard(self.composer, shard.name, shard.content)
        (folder / tar_path(shard.name)).write_bytes(tar)
        metadata = {_KEY: f"{self.key} {len(tar)}".encode()}
        path = folder / table_path(shard.name)
        pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd")
        return {"scenes": len(shard.content)}


def plan_key(plan: ScenePlan, manifest: Manifest, chosen: Cutouts) -> str:
    """Hash of what all shards agree on: the plan, and the cut-outs with their names and splits."""
    items = [(one.id, one.concept, one.name, one.family, one.style, one.split) for one in chosen.items]
    return content_key(FORMAT, plan.key(), manifest.fingerprint(), items)


def scene_job(folder: Path, plan: ScenePlan, key: str) -> Job:
    """The job that composes scenes into a folder."""
    settings = plan.model_dump(mode="json")
    return Job(folder, {"format": FORMAT, **settings, "key": key}, what="scenes")


def scene_shards(job: Job, plan: ScenePlan, scenes: int, key: str) -> list[Shard[range]]:
    """Scenes by shard. A last shard that has more scenes than are wanted stays as it is."""
    shards: list[Shard[range]] = []
    for start in range(0, scenes, plan.shard):
        name = f"scenes-{start // plan.shard:05d}"
        wanted = min(plan.shard, scenes - start)
        record = job.recorded(name)
        count = max(wanted, record.notes["scenes"]) if record else wanted
        shards.append(Shard(name, content_key(key, name, count), range(start, start + count)))
    return shards


def tar_path(name: str) -> str:
    """Path of a shard's images within the data set's folder."""
    return f"{_FOLDER}/{name}.tar"


def table_path(name: str) -> str:
    """Path of what is known about a shard's images."""
    return f"{_FOLDER}/{name}.parquet"


def compose_shard(composer: Composer, name: str, numbers: Sequence[int]) -> tuple[bytes, pa.Table]:
    """One shard.

    Args:
        composer: makes the scenes.
        name: of the shard.
        numbers: of the scenes.

    Returns:
        The tar, and a table of `SCHEMA` whose image paths start in the data set's folder.
    """
    buffer = io.BytesIO()
    rows: list[dict[str, Any]] = []
    extension = EXTENSIONS[composer.plan.format]
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as file:
        for number in numbers:
            scene = composer.scene(number)
            member = tarfile.TarInfo(f"{scene_id(number)}.{extension}")  # no time, no owner: equal bytes
            member.size = len(scene.image)
            offset = file.offset + tarfile.BLOCKSIZE
            file.addfile(member, io.BytesIO(scene.image))
            place = {"path": tar_path(name), "offset": offset, "length": len(scene.image)}
            rows.append({**scene.row, "image": {**place, "row": None, "column": None}})
    return buffer.getvalue(), pa.Table.from_pylist(rows, schema=SCHEMA)


def scene_table(folder: Path, shards: Sequence[Shard[range]], scenes: int) -> pa.Table:
    """All that is known about the scenes of finished shards: a row a scene, in the order of their numbers."""
    tables = [pq.read_table(folder / table_path(shard.name)).cast(SCHEMA) for shard in shards]
    return pa.concat_tables(tables).slice(0, scenes)


def scene_manifest(folder: Path, table: pa.Table) -> Manifest:
    """The manifest of scenes."""
    reserved = ("id", "image", "captions")
    return make_manifest(
        ids=table["id"],
        images=table["image"].combine_chunks(),
        captions=table["captions"],
        fields={name: table[name] for name in table.column_names if name not in reserved},
        root=folder,
        name=str(folder),
    )
