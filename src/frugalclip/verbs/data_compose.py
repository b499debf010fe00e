"""`frugalclip data compose`: scenes from cut-outs, with all that is true of them."""

import io
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from frugalclip.core.config import merge, validated
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.core.executors import local_executor
from frugalclip.core.locks import writes_into
from frugalclip.core.overrides import Schema, parse_overrides
from frugalclip.core.paths import user_path
from frugalclip.core.records import write_atomically
from frugalclip.core.terminal import Terminal
from frugalclip.core.users_text import command_line
from frugalclip.core.yaml_text import dump_yaml, read_yaml
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import read_sources
from frugalclip.synthetic.composing import Composer
from frugalclip.synthetic.cutouts import Cutouts, choose_cutouts, concept_weights, with_pixels
from frugalclip.synthetic.plan import ScenePlan
from frugalclip.synthetic.planting import assign
from frugalclip.synthetic.shards import (
    SceneTask,
    plan_key,
    scene_job,
    scene_manifest,
    scene_shards,
    scene_table,
)
from frugalclip.synthetic.sheet import contact_sheet
from frugalclip.synthetic.truth_tables import cutout_counts, write_concepts, write_cutouts, write_planted
from frugalclip.training.recommendation import first_recipe
from frugalclip.verbs.data_terminal import progress_bar, show_lines, show_next

TRUTH = "truth"  # folder of what is true of the scenes
_SHOWN = 30  # scenes of the contact sheet
_MOST_WORKERS = 16


@dataclass(frozen=True)
class Composition:
    """What `data compose` wrote."""

    path: Path
    scenes: int
    made: int  # scenes made by this call; the others were there
    seconds: float  # of making them
    cutouts: int
    left_out: dict[str, int]  # reason -> cut-outs
    notes: list[str]
    splits: dict[str, int]
    planted: dict[str, int]
    key_words: int  # long captions with a key word after token 77
    fingerprint: str
    bytes: int


def read_plan(path: str | Path | None, overrides: Sequence[str] = ()) -> ScenePlan:
    """A plan from a YAML file and `key=value` pairs.

    Raises:
        RecipeError: when the file does not exist, or a setting is unknown or wrong.
    """
    if path is not None and not user_path(path).is_file():
        raise RecipeError(
            f"{path} is not a file, expected a plan in YAML; every setting has a default, "
            "so --plan may be left out."
        )
    content = read_yaml(user_path(path)) if path is not None else {}
    return validated(
        ScenePlan, merge(content, parse_overrides(overrides, schema=Schema(ScenePlan))), where=""
    )


@writes_into("out")
def compose(
    paths: Sequence[str | Path] | str | Path,
    overrides: Sequence[str] = (),
    *,
    out: str | Path,
    scenes: int = 50_000,
    plan: str | Path | None = None,
    workers: int | None = None,
    columns: Mapping[str, str] | None = None,
) -> Composition:
    """Compose scenes from images of single objects.

    Args:
        paths: data sets of cut-outs.
        overrides: `key=value` pairs of the plan.
        out: folder to write; called again with the same plan it continues, also with more scenes.
        scenes: how many.
        plan: YAML file.
        workers: processes; None gives one a core, at most 16. They change no byte.
        columns: names of the columns `image`, `caption` and `id` where they are not recognised.

    Raises:
        RecipeError: when the plan is wrong.
        DataError: when the cut-outs cannot be used, or `out` holds something else.
    """
    settings, folder = read_plan(plan, overrides), user_path(out)
    if scenes < 1:
        raise DataError(f"--scenes is {scenes}, expected 1 or more; leave it out for 50,000.")
    manifest = read_sources(paths, columns=columns).manifest
    chosen = choose_cutouts(manifest, settings)
    concept_weights(chosen.items, settings)  # a wrong table is refused before anything is cut out
    start = time.perf_counter()
    made, table = _make_scenes(folder, settings, manifest, chosen, scenes=scenes, workers=workers)
    seconds = time.perf_counter() - start
    result = scene_manifest(folder, table)
    result.write(folder / "manifest.parquet")
    truth = folder / TRUTH
    write_concepts(truth, table, settings, chosen)
    write_planted(truth, table)
    _write_sheet(truth / "sheet.jpg", result)
    kept, left_out = cutout_counts(truth)
    return Composition(
        path=folder,
        scenes=len(result),
        made=made,
        seconds=seconds,
        cutouts=kept,
        left_out=left_out,
        notes=chosen.notes,
        splits=dict(Counter(table["split"].to_pylist())),
        planted=dict(Counter(fault for fault in table["planted"].to_pylist() if fault)),
        key_words=len(table) - table["key_object"].null_count,
        fingerprint=result.fingerprint(),
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    )


def _make_scenes(
    folder: Path,
    plan: ScenePlan,
    manifest: Manifest,
    chosen: Cutouts,
    *,
    scenes: int,
    workers: int | None,
) -> tuple[int, pa.Table]:
    """Run the job: how many scenes were missing, and all that is known about the scenes."""
    key = plan_key(plan, manifest, chosen)
    job = scene_job(folder, plan, key)
    job.begin()
    write_atomically(folder / "plan.yaml", dump_yaml(plan.model_dump(mode="json")))
    (folder / TRUTH).mkdir(exist_ok=True)
    shards = scene_shards(job, plan, scenes, key)
    finished = job.finished(shards)
    missing = [shard for shard in shards if shard.name not in finished]
    if missing:
        executor = local_executor(min(workers or min(os.cpu_count() or 1, _MOST_WORKERS), len(missing)))
        with progress_bar("cutting objects out", None):
            cutouts = with_pixels(chosen, manifest, plan, executor)
        write_cutouts(folder / TRUTH, cutouts)
        task = SceneTask(Composer(plan, cutouts, assign(plan, scenes)), key)
        with progress_bar("composing scenes", sum(len(shard.content) for shard in shards)) as progress:
            job.run(shards, task, executor, progress=lambda shard: progress(len(shard.content)))
    made = sum(min(shard.content.stop, scenes) - shard.content.start for shard in missing)
    return made, scene_table(folder, shards, scenes)


def _write_sheet(path: Path, manifest: Manifest) -> None:
    rows = range(min(_SHOWN, len(manifest)))
    reader = ImageReader(manifest)
    sheet = contact_sheet([reader.image(row) for row in rows], manifest.take(rows).captions())
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=88, subsampling=0)
    write_atomically(path, buffer.getvalue())


def show(result: Composition, console: Console | None = None) -> None:
    """Print what `compose` wrote."""
    console = console or Terminal(markup=True)
    there = f", {result.scenes - result.made:,} were there" if result.made < result.scenes else ""
    speed = f"{result.made / max(result.seconds, 1e-9):,.0f} a second"
    left_out = ", ".join(f"{escape(name)} {count:,}" for name, count in result.left_out.items())
    lines = [
        f"Wrote [bold]{escape(str(result.path))}[/]: {result.scenes:,} scenes, {result.bytes / 1e6:,.1f} MB; "
        f"{result.made:,} made in {result.seconds:.1f} s ({speed}){there}.",
        f"Cut-outs: {result.cutouts:,} used; left out: {left_out or 'none'} (truth/cutouts.parquet says "
        "why).",
        *(f"[yellow]note[/]: {escape(note)}." for note in result.notes),
    ]
    show_lines(lines, console)
    table = Table("what", "scenes", title="Scenes", title_justify="left")
    for name, count in result.splits.items():
        table.add_row(f"split {escape(name)}", f"{count:,}")
    for name, count in result.planted.items():
        table.add_row(f"planted: {escape(name)}", f"{count:,}")
    if result.key_words:
        table.add_row("key word after token 77", f"{result.key_words:,}")
    console.print(table)
    shown = min(_SHOWN, result.scenes)
    console.print(
        f"Fingerprint {result.fingerprint}; truth/sheet.jpg shows {shown} scenes with their captions."
    )
    recipe = first_recipe(result.splits.get("train", result.scenes))
    words = (recipe, f"data={result.path}", "data.where=split=train", "--out", "runs/scenes")
    show_next(command_line("train", *words), console)
