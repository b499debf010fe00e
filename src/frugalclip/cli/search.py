"""The verbs of a search index: build, query, add, remove, check."""

import json as json_text
from pathlib import Path
from typing import Annotated, Literal

import typer

from frugalclip.cli.groups import BAD_DATA, PATHS, Batch, DataPath, Model, Where, app, search

Index = Annotated[str, typer.Argument(metavar="INDEX", help="A folder that 'search build' wrote.")]


@search.command(epilog=PATHS)
def build(
    model: Model,
    path: DataPath,
    *,
    out: Annotated[str, typer.Option(metavar="INDEX", help="Folder of the index.")],
    where: Where = None,
    kind: Annotated[
        Literal["auto", "exact", "ivf", "lexical"],
        typer.Option(help="ivf: clusters; lexical: words; auto: by the model and the number of rows."),
    ] = "auto",
    batch: Batch = 256,
) -> None:
    """Make an index of the pictures of a data set.

    Called again it goes on where it stopped, and embeds nothing twice.
    """
    from frugalclip.verbs import search_build as verb

    verb.show(verb.search_build(model, path, out=out, where=where, kind=kind, batch=batch))


@search.command()
def query(
    index: Index,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What pictures show.", show_default=False)
    ] = None,
    *,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A picture like them.", show_default=False)
    ] = None,
    like: Annotated[
        str | None, typer.Option(metavar="ID", help="A row like them.", show_default=False)
    ] = None,
    without: Annotated[
        str | None,
        typer.Option("--not", metavar="WORDS", help="Words that are not wanted.", show_default=False),
    ] = None,
    weight: Annotated[float, typer.Option(metavar="W", help="Of the text beside a picture, 0 to 1.")] = 0.5,
    boost: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORD=FACTOR", help="Weigh a word of a lexical index more or less.", show_default=False
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="Hits at most.")] = 10,
    where: Where = None,
    max_false_hits: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="Leave out scores that a larger share of random pairs reaches, such as 0.001.",
            show_default=False,
        ),
    ] = None,
    beside: Annotated[
        str | None,
        typer.Option(
            metavar="INDEX",
            help="Another index of the same rows, whose scores count half: words beside vectors.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", metavar="", help="Print the hits as JSON.")] = False,
) -> None:
    """Find pictures by words, by a picture, by a row of the index, or by both."""
    from frugalclip.verbs import search as verb

    opened = verb.search(index) if beside is None else verb.both(index, beside)
    request = verb.SearchRequest(
        text=text,
        image=image,
        like=like,
        without=without,
        weight=weight,
        boost=verb.boosts(boost or []),
        k=k,
        where=where,
        max_false_hits=max_false_hits,
    )
    if json:
        typer.echo(json_text.dumps(opened.answer(request), ensure_ascii=False, indent=2))
    else:
        verb.show(opened, request)


@search.command(epilog=PATHS)
def add(index: Index, path: DataPath, *, where: Where = None, batch: Batch = 256) -> None:
    """Add the rows of a data set.

    Rows that are there already stay, and changed ones are replaced.
    """
    from frugalclip.verbs import search_change as verb

    verb.show_change(index, verb.search_add(index, path, where=where, batch=batch))


@search.command()
def remove(
    index: Index, ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As hits show them.")]
) -> None:
    """Remove rows from the index; files stay."""
    from frugalclip.verbs import search_change as verb

    verb.show_change(index, verb.search_remove(index, ids))


@search.command()
def check(index: Index) -> None:
    """Find what has changed since pictures were indexed, and damage of the index.

    Exit code 3: there is some.
    """
    from frugalclip.verbs import search_change as verb

    drift = verb.search_check(index)
    verb.show_drift(index, drift)
    if not drift.is_none:
        raise typer.Exit(BAD_DATA)


@app.command()
def serve(
    index: Index,
    *,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Any other than this machine's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="PORT")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Holds the token that requests must carry.", show_default=False),
    ] = None,
) -> None:
    """Serve a search page and a JSON API on an index.

    SIGTERM ends it after the requests that have begun. A new index in the folder is taken up.
    """
    from frugalclip.verbs import serve as verb

    verb.serve(index, host=host, port=port, token_file=token_file)
