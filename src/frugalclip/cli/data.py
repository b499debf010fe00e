"""The verbs of data sets: check, verify, stats, manifest, convert, compose."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from frugalclip.cli.groups import (
    BAD_DATA,
    PATHS,
    DataPaths,
    Json,
    Where,
    data,
    places_and_columns,
)
from frugalclip.core.errors import UsageError


@data.command(epilog=PATHS)
def check(
    paths: DataPaths,
    full: Annotated[
        bool, typer.Option("--full", metavar="", help="Decode every picture, not a sample of them.")
    ] = False,
) -> None:
    """Recognise a data set, and list what is wrong with it."""
    from frugalclip.verbs import data_check as verb

    places, columns = places_and_columns(paths)
    verb.show_check(verb.check(places, full=full, columns=columns))


@data.command(epilog=PATHS)
def verify(
    paths: DataPaths,
    *,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            metavar="",
            help="Repair what can be repaired, and write a manifest of the good samples.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The manifest; by default beside the data.", show_default=False),
    ] = None,
) -> None:
    """Read and decode everything, and name what is bad.

    Writes a ledger of every sample's fate, and changes no original. Exit code 3: bad data was found and not
    repaired.
    """
    from frugalclip.verbs import data_verify as verb

    places, columns = places_and_columns(paths)
    result = verb.verify(places, repair=repair, out=out, columns=columns)
    verb.show(result)
    if not (result.is_clean or repair):
        raise typer.Exit(BAD_DATA)


@data.command(epilog=PATHS)
def stats(
    paths: DataPaths,
    full: Annotated[
        bool, typer.Option("--full", metavar="", help="Read every picture and caption of a large data set.")
    ] = False,
    json: Json = None,
) -> None:
    """Count captions, tokens, sizes, copies, languages and fields."""
    from frugalclip.verbs import data_stats as verb

    places, columns = places_and_columns(paths)
    verb.show_stats(verb.stats(places, full=full, columns=columns, json=json))


@data.command(epilog=PATHS)
def manifest(
    paths: DataPaths,
    *,
    out: Annotated[str, typer.Option(metavar="FILE", help="Parquet file to write.")],
    where: Where = None,
) -> None:
    """Write where pictures are, with captions and fields.

    Copies no picture; the ledger beside it says what was left out, and why.
    """
    from frugalclip.verbs import data_manifest as verb

    places, columns = places_and_columns(paths)
    verb.show_manifest(verb.manifest(places, out=out, where=where, columns=columns))


@data.command(epilog=PATHS)
def divide(
    paths: DataPaths,
    *,
    out: Annotated[str, typer.Option(metavar="FILE", help="Parquet manifest to write.")],
    val: Annotated[float, typer.Option(metavar="SHARE", help="Share of the rows for validation.")] = 0.1,
    test: Annotated[float, typer.Option(metavar="SHARE", help="Share of the rows for the test.")] = 0.2,
    by: Annotated[
        str | None,
        typer.Option(metavar="F", help="Field whose equal values stay together.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Another seed, another division.")] = 0,
    replace: Annotated[
        bool, typer.Option("--replace", metavar="", help="Replace the split that the data brings.")
    ] = False,
) -> None:
    """Divide a data set into train, val and test.

    Families stay together, or else pictures that look alike. Writes a manifest with a field split; copies no
    picture.
    """
    from frugalclip.verbs import data_divide as verb

    places, columns = places_and_columns(paths)
    shares = {"val": val, "test": test}
    division = verb.divide(places, out=out, shares=shares, by=by, seed=seed, replace=replace, columns=columns)
    verb.show_divide(division)


@data.command(epilog=PATHS)
def convert(
    paths: DataPaths,
    *,
    to: Annotated[
        Literal["tar", "parquet"],
        typer.Option(help="WebDataset tars, or Parquet shards that Hugging Face's datasets opens too."),
    ],
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder of the shards; called again, it goes on there.")
    ],
    where: Where = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Shrink to N pixels on the shorter side.", show_default=False),
    ] = None,
    format: Annotated[
        Literal["keep", "jpeg", "webp", "png"], typer.Option(help="File format of the pictures.")
    ] = "keep",
    samples_per_shard: Annotated[
        int, typer.Option(min=1, metavar="N", help="Samples of one shard, at most.")
    ] = 5000,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Threads; by default the cores, at most 8.", show_default=False
        ),
    ] = None,
    shuffle: Annotated[
        int | None,
        typer.Option(min=0, metavar="SEED", help="Put samples in a random order.", show_default=False),
    ] = None,
) -> None:
    """Write pictures, captions and fields as shards.

    A broken picture is left out, and the ledger says why.
    """
    from frugalclip.verbs import data_convert as verb

    places, columns = places_and_columns(paths)
    options = {
        "size": size,
        "format": format,
        "samples_per_shard": samples_per_shard,
        "workers": workers,
        "shuffle": shuffle,
    }
    verb.show_convert(verb.convert(places, to=to, out=out, where=where, columns=columns, **options))


@data.command(
    epilog=f"{PATHS} KEY=VALUE: settings of the plan, such as canvas=64 or planted.swapped=0.1; "
    "docs/scenes.md lists them."
)
def compose(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH... [KEY=VALUE...]",
            help="Data sets of single objects on white; settings of the plan.",
        ),
    ],
    *,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder of the scenes; called again, it goes on there.")
    ],
    scenes: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many; more may be added later.")
    ] = 50_000,
    plan: Annotated[
        Path | None, typer.Option(metavar="PLAN.yaml", help="What the scenes are like.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Processes; by default the cores, at most 16.", show_default=False
        ),
    ] = None,
) -> None:
    """Compose scenes from cut-outs, with captions and known truth."""
    from frugalclip.verbs import data_compose as verb

    words, columns = places_and_columns(paths)
    settings = [word for word in words if re.match(r"\w+(\.\w+)*=", word) and not os.path.exists(word)]
    places = [word for word in words if word not in settings]
    if not places:
        raise UsageError("there are settings but no data set; name one first, such as the word sample.")
    verb.show(
        verb.compose(places, settings, out=out, scenes=scenes, plan=plan, workers=workers, columns=columns)
    )
