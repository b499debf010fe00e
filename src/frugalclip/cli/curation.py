"""The verbs of curation: curate, ledger explain, ledger undo, ledger croissant."""

from typing import Annotated

import typer

from frugalclip.cli.groups import PATHS, DataPaths, Where, app, ledger, places_and_columns

Folder = Annotated[str, typer.Argument(metavar="DIR", help="Folder of a finished curation.")]


@app.command(epilog=PATHS)
def curate(
    paths: DataPaths,
    *,
    plan: Annotated[
        str,
        typer.Option(
            metavar="PLAN",
            help="clean, dedup, balanced, metaclip or datacomp-basic (all experimental), or a YAML file.",
        ),
    ],
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder of the curation.", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Only print the expected rows of every stage.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", metavar="", help="Go on where an earlier call was stopped.")
    ] = False,
    where: Where = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Processes; by default the cores, at most 8.", show_default=False
        ),
    ] = None,
) -> None:
    """Choose rows by a plan, with a ledger of every row's fate.

    Writes a manifest, which train reads, and copies no picture. The ready plans are experimental: look at
    what they drop in report.html.
    """
    from frugalclip.verbs import curate as verb

    places, columns = places_and_columns(paths)
    verb.show(
        verb.curate(
            places,
            plan=plan,
            out=out,
            dry_run=dry_run,
            resume=resume,
            where=where,
            workers=workers,
            columns=columns,
        )
    )


@ledger.command()
def explain(
    folder: Folder, id: Annotated[str, typer.Argument(metavar="ID", help="Id of a row of the data set.")]
) -> None:
    """Say why a row is in or out."""
    from frugalclip.verbs import ledger as verb

    verb.show_story(verb.explain(folder, id))


@ledger.command()
def undo(
    folder: Folder, stage: Annotated[str, typer.Argument(metavar="STAGE", help="Name of a stage.")]
) -> None:
    """Take a stage back: the rows that it dropped are in again.

    No other stage runs.
    """
    from frugalclip.verbs import ledger as verb

    verb.show_undo(verb.undo(folder, stage), folder)


@ledger.command()
def croissant(
    folder: Folder,
    *,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the data set.", show_default=False)
    ] = None,
    license: Annotated[
        str | None, typer.Option(metavar="LICENSE", help="Address or SPDX name.", show_default=False)
    ] = None,
    creator: Annotated[
        str | None, typer.Option(metavar="WHO", help="Who publishes it.", show_default=False)
    ] = None,
    url: Annotated[str | None, typer.Option(metavar="URL", help="Of its page.", show_default=False)] = None,
) -> None:
    """Describe the rows that stay by Croissant 1.1, for tools that read published data sets."""
    from frugalclip.verbs import ledger as verb

    verb.show_croissant(verb.croissant(folder, name=name, license=license, creator=creator, url=url))
