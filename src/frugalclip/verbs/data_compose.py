"""`frugalclip data compose`: scenes from cut-outs, with everything about them known.

Shards are made by processes, each whole or not at all, and what is there is not made again. The manifest and the truth are put together at the
end from what the shards hold.
"""

import contextlib
import gc
import hashlib
import io
import json
import multiprocessing
import os
import shlex
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from frugalclip.core.config import dump_yaml, merge, parse_overrides, read_yaml, validated
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.core.records import read_json, write_atomically, write_json
from frugalclip.data.images import ImageReader
from frugalclip.data.manifest import Manifest, concatenate, make_manifest
from frugalclip.sources.open import open_data
from frugalclip.synthetic.composing import Composer, compose_shard, scenes_of, shard_name, shards_of
from frugalclip.synthetic.cutouts import Cutouts, choose_cutouts, concept_weights, with_pixels
from frugalclip.synthetic.plan import ScenePlan
from frugalclip.synthetic.planting import assign
from frugalclip.synthetic.sheet import contact_sheet
from frugalclip.synthetic.truth import SCHEMA

FORMAT = 1
_KEY = b"frugalclip.scenes"
_SHOWN = 30  # scenes of the contact sheet


@dataclass(frozen=True)
class Composed:
    """What `data compose` wrote."""

    path: Path
    scenes: int
    made: int  # scenes made now; the others were there
    seconds: float  # of making them
    cutouts: int
    left_out: dict[str, int]  # reason -> cut-outs
    notes: list[str]
    splits: dict[str, int]
    planted: dict[str, int]
    key_words: int  # long captions that hold one back
    fingerprint: str
    bytes: int


def read_plan(path: str | Path | None, overrides: Sequence[str] = ()) -> ScenePlan:
    """A plan from a YAML file and `key=value` pairs.

    Raises:
        RecipeError: when the file is not there, or a setting is unknown or wrong.
    """
    if path is not None and not Path(path).is_file():
        raise RecipeError(
            f"{path} is not a file, expected a plan in YAML; every setting has a default, so --plan may be left out."
        )
    content = read_yaml(Path(path)) if path is not None else {}
    return validated(ScenePlan, merge(content, parse_overrides(overrides)), where="")


def compose(
    paths: Sequence[str | Path] | str | Path,
    overrides: Sequence[str] = (),
    *,
    out: str | Path,
    scenes: int = 50_000,
    plan: str | Path | None = None,
    workers: int | None = None,
    columns: Mapping[str, str] | None = None,
) -> Composed:
    """Compose scenes from pictures of single objects.

    Args:
        paths: data sets of cut-outs.
        overrides: `key=value` pairs of the plan.
        out: folder to write; called again with the same plan it goes on, also to more scenes.
        scenes: how many.
        plan: YAML file.
        workers: processes; None gives one for each core, at most 16. The result is the same on any number.
        columns: names of the columns `image`, `caption` and `id` where they are not recognised.

    Raises:
        RecipeError: when the plan is wrong.
        DataError: when the cut-outs cannot be used, or `out` holds something else.
    """
    settings, folder = read_plan(plan, overrides), Path(out)
    if scenes < 1:
        raise DataError(f"--scenes is {scenes}, expected 1 or more; leave it out for 50,000.")
    places = [paths] if isinstance(paths, (str, Path)) else list(paths)
    manifest = concatenate([open_data(path, columns=columns) for path in places])
    chosen = choose_cutouts(manifest, settings)
    concept_weights(chosen.items, settings)  # a wrong table is refused before anything is cut out
    key = _key(settings, manifest, chosen)
    _claim(folder, key, settings, scenes)
    todo = [
        shard
        for shard in range(shards_of(settings, scenes))
        if _rows_there(folder, shard, key) < scenes_of(shard, settings, scenes)
    ]
    start = time.perf_counter()
    workers = max(1, min(workers or min(os.cpu_count() or 1, 16), len(todo) or 1))
    cutouts = (
        _make(folder, manifest, chosen, settings, scenes=scenes, todo=todo, key=key, workers=workers)
        if todo
        else None
    )
    seconds = time.perf_counter() - start
    made = sum(scenes_of(shard, settings, scenes) for shard in todo)
    return _finished(
        folder, settings, scenes=scenes, made=made, seconds=seconds, chosen=chosen, cutouts=cutouts, key=key
    )


def _key(plan: ScenePlan, manifest: Manifest, chosen: Cutouts) -> str:
    """What shards must agree on: the plan, and the cut-outs with their names and splits."""
    items = [(one.id, one.concept, one.name, one.family, one.style, one.split) for one in chosen.items]
    content = json.dumps([FORMAT, plan.key(), manifest.fingerprint(), items], ensure_ascii=False)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _claim(folder: Path, key: str, plan: ScenePlan, scenes: int) -> None:
    """Make the folder ours, or say why it cannot be."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file, expected a folder; give --out another name.")
    marker = folder / "scenes.json"
    if marker.is_file():
        found = read_json(marker)
        if found.get("key") != key:
            raise DataError(
                f"{folder} holds scenes of another plan or other cut-outs; give --out another folder, or delete this one."
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty and holds no scenes; give --out an empty folder.")
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    write_json(marker, {"format": FORMAT, "key": key, "scenes": scenes})
    write_atomically(folder / "plan.yaml", dump_yaml(plan.model_dump(mode="json")))


def _tar(folder: Path, shard: int) -> Path:
    return folder / "shards" / shard_name(shard)


def _rows_there(folder: Path, shard: int, key: str) -> int:
    """Scenes of a shard that is whole, else 0. The tar is written first, so that a Parquet file says that both are there."""
    path = _tar(folder, shard)
    with contextlib.suppress(OSError, pa.ArrowException):
        found = pq.read_metadata(path.with_suffix(".parquet"))
        if path.is_file() and (found.metadata or {}).get(_KEY) == f"{key} {path.stat().st_size}".encode():
            return found.num_rows
    return 0


_composer: Composer | None = None  # of this process
_folder = Path()
_job: tuple[int, str] = (0, "")


def _start(
    composer: Composer | None = None, folder: Path = Path("."), scenes: int = 0, key: str = ""
) -> None:
    global _composer, _folder, _job
    _composer, _folder, _job = composer, folder, (scenes, key)
    if multiprocessing.parent_process() is not None:
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # Ctrl-C reaches every process of the terminal; the first one ends the others
        gc.freeze()  # cut-outs and tables stay; going through them again and again took a quarter of the time
        gc.disable()  # what a shard leaves is collected after it


def _write_shard(shard: int) -> int:
    """Make one shard and write it: tar, then truth."""
    assert _composer is not None
    scenes, key = _job
    tar, table = compose_shard(_composer, shard, scenes)
    path = _tar(_folder, shard)
    path.with_suffix(".parquet").unlink(
        missing_ok=True
    )  # of a shorter shard: it does not go with the new tar
    write_atomically(path, tar)
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({_KEY: f"{key} {len(tar)}".encode()}), buffer, compression="zstd"
    )
    write_atomically(path.with_suffix(".parquet"), buffer.getvalue())
    gc.collect()
    return table.num_rows


def _make(
    folder: Path,
    manifest: Manifest,
    chosen: Cutouts,
    plan: ScenePlan,
    *,
    scenes: int,
    todo: list[int],
    key: str,
    workers: int,
) -> Cutouts:
    console = Console(stderr=True)
    with (
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
        _processes(workers) as executor,
    ):
        task = progress.add_task("cutting objects out", total=None)
        cutouts = with_pixels(chosen, manifest, plan, executor)
    composer = Composer(plan, cutouts, assign(plan, scenes))
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        total = sum(scenes_of(shard, plan, scenes) for shard in todo)
        with _processes(workers, composer, folder, scenes, key) as executor:
            task = progress.add_task("composing scenes", total=total)
            for rows in executor.map(_write_shard, todo) if executor else map(_write_shard, todo):
                progress.advance(task, rows)
    return cutouts


@contextlib.contextmanager
def _processes(workers: int, *job: Any) -> Iterator[Executor | None]:
    """Processes that know the job, or None where one is enough; a process that dies ends in a sentence."""
    if workers == 1:
        if job:
            _start(*job)
        yield None
        return
    context = multiprocessing.get_context(
        "fork" if sys.platform == "linux" else "spawn"
    )  # forked ones share the cut-outs' memory
    try:
        with (
            warnings.catch_warnings(),
            ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=job) as executor,
        ):
            warnings.filterwarnings(
                "ignore", message=".*fork.*", category=DeprecationWarning
            )  # of threads, which the new process leaves alone
            yield executor
    except BrokenProcessPool:
        raise DataError(
            "a composing process died, usually for lack of memory; call again with --workers 1, which goes on where this stopped."
        ) from None


def _finished(
    folder: Path,
    plan: ScenePlan,
    *,
    scenes: int,
    made: int,
    seconds: float,
    chosen: Cutouts,
    cutouts: Cutouts | None,
    key: str,
) -> Composed:
    """Put manifest and truth together from what the shards hold."""
    tables = [
        pq.read_table(_tar(folder, shard).with_suffix(".parquet")) for shard in range(shards_of(plan, scenes))
    ]
    table = pa.concat_tables(
        [one.slice(0, scenes_of(shard, plan, scenes)).cast(SCHEMA) for shard, one in enumerate(tables)]
    )
    fields = {name: table[name] for name in SCHEMA.names if name not in ("id", "image", "captions")}
    images = table["image"].combine_chunks()
    manifest = make_manifest(
        ids=table["id"],
        images=images,
        captions=table["captions"],
        fields=fields,
        root=folder,
        name=str(folder),
    )
    manifest.write(folder / "manifest.parquet")
    truth = folder / "truth"
    truth.mkdir(exist_ok=True)
    _write_truth(truth, table, plan, chosen, cutouts)
    _write_sheet(truth / "sheet.jpg", manifest)
    return Composed(
        path=folder,
        scenes=len(manifest),
        made=made,
        seconds=seconds,
        cutouts=len(pq.read_table(truth / "cutouts.parquet", filters=[("status", "=", "kept")])),
        left_out=_left_out(truth),
        notes=chosen.notes,
        splits=dict(Counter(table["split"].to_pylist())),
        planted=dict(Counter(fault for fault in table["planted"].to_pylist() if fault)),
        key_words=len(table) - table["key_object"].null_count,
        fingerprint=manifest.fingerprint(),
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    )


def _left_out(truth: Path) -> dict[str, int]:
    reasons = pq.read_table(truth / "cutouts.parquet", columns=["reason"])["reason"].to_pylist()
    return dict(Counter(reason for reason in reasons if reason).most_common())


def _write_truth(
    truth: Path, table: pa.Table, plan: ScenePlan, chosen: Cutouts, cutouts: Cutouts | None
) -> None:
    """Exact counts of concepts, the planted faults, and the fate of every cut-out."""
    objects, scenes, mentions = Counter[str](), Counter[str](), Counter[str]()
    for placed, spoken in zip(table["objects"].to_pylist(), table["mentions"].to_pylist(), strict=True):
        objects.update(one["concept"] for one in placed)
        scenes.update({one["concept"] for one in placed})
        for caption in spoken:
            mentions.update({placed[place]["concept"] for place in caption})
    weights = concept_weights(chosen.items, plan)
    first = {item.concept: item for item in reversed(chosen.items)}
    rows = [
        {
            "concept": concept,
            "name": item.name,
            "family": item.family,
            "split": item.split,
            "weight": weights[concept],
        }
        | {"objects": objects[concept], "scenes": scenes[concept], "captions": mentions[concept]}
        for concept, item in sorted(first.items(), key=lambda pair: (-objects[pair[0]], pair[0]))
    ]
    pq.write_table(pa.Table.from_pylist(rows), truth / "concepts.parquet")
    faulty = table.select(["id", "split", "planted", "planted_from", "planted_detail"]).filter(
        pc.is_valid(table["planted"])
    )
    pq.write_table(
        faulty.rename_columns(["id", "split", "planted", "from", "detail"]), truth / "planted.parquet"
    )
    if cutouts is not None:  # otherwise nothing was cut out this time, and the file is there
        kept = [
            {
                "id": item.id,
                "status": "kept",
                "reason": None,
                "detail": None,
                "concept": item.concept,
                "style": item.style,
                "split": item.split,
            }
            for item in cutouts.items
        ]
        dropped = [
            {"id": one.id, "status": "dropped", "reason": one.reason, "detail": one.detail}
            for one in cutouts.left_out
        ]
        names = ["id", "status", "reason", "detail", "concept", "style", "split"]
        schema = pa.schema([(name, pa.string()) for name in names])
        pq.write_table(pa.Table.from_pylist([*kept, *dropped], schema=schema), truth / "cutouts.parquet")


def _write_sheet(path: Path, manifest: Manifest) -> None:
    rows = range(min(_SHOWN, len(manifest)))
    reader = ImageReader(manifest)
    buffer = io.BytesIO()
    contact_sheet([reader.image(row) for row in rows], manifest.take(rows).captions()).save(
        buffer, "JPEG", quality=88, subsampling=0
    )
    write_atomically(path, buffer.getvalue())


def show(result: Composed, console: Console | None = None) -> None:
    """Print what `compose` wrote."""
    console = console or Console()
    there = f", {result.scenes - result.made:,} were there" if result.made < result.scenes else ""
    speed = f"{result.made:,} made in {result.seconds:.1f} s ({result.made / max(result.seconds, 1e-9):,.0f} a second){there}"
    console.print(
        f"Wrote [bold]{escape(str(result.path))}[/]: {result.scenes:,} scenes, {result.bytes / 1e6:,.1f} MB; {speed}.",
        soft_wrap=True,
    )
    console.print(
        f"Cut-outs: {result.cutouts:,} used; left out: {_counts(result.left_out) or 'none'} (truth/cutouts.parquet says why).",
        soft_wrap=True,
    )
    for note in result.notes:
        console.print(f"[yellow]note[/]: {escape(note)}.", soft_wrap=True)
    table = Table("what", "scenes", title="Scenes", title_justify="left")
    for name, count in result.splits.items():
        table.add_row(f"split {escape(name)}", f"{count:,}")
    for name, count in result.planted.items():
        table.add_row(f"planted: {escape(name)}", f"{count:,}")
    if result.key_words:
        table.add_row("key word after token 77", f"{result.key_words:,}")
    console.print(table)
    console.print(
        f"Fingerprint {result.fingerprint}; truth/sheet.jpg shows {min(_SHOWN, result.scenes)} scenes with their captions."
    )
    command = f"frugalclip train clip data.path={shlex.quote(str(result.path))} data.where=split=train --out runs/scenes"
    console.print(f"\nNext: [bold]{escape(command)}[/]", soft_wrap=True)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{escape(name)} {count:,}" for name, count in counts.items())
