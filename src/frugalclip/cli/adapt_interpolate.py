"""The verbs that mix finished models: adapt interpolate, adapt soup."""

from typing import Annotated

import typer

from frugalclip.cli.groups import PATHS, Model, adapt

Out = Annotated[str, typer.Option(metavar="RUN", help="Folder of the model; made if it is not there.")]


@adapt.command(epilog=PATHS)
def interpolate(
    first: Model,
    second: Model,
    *,
    out: Out,
    alpha: Annotated[
        float | None,
        typer.Option(metavar="A", help="From 0, the first, to 1, the second.", show_default=False),
    ] = None,
    guard: Annotated[
        str | None, typer.Option(metavar="PATH", help="Or data that chooses A.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="PATH", help="Target data to do well on.", show_default=False)
    ] = None,
    max_loss: Annotated[float, typer.Option(min=0, metavar="P", help="Points the guard may lose.")] = 1.0,
    points: Annotated[int, typer.Option(min=2, metavar="N", help="Models measured between both.")] = 11,
) -> None:
    """Make a model between two of one architecture."""
    from frugalclip.verbs import adapt_interpolate as verb

    result = verb.adapt_interpolate(
        first, second, out=out, alpha=alpha, guard=guard, data=data, max_loss=max_loss, points=points
    )
    verb.show(result)


@adapt.command(epilog=PATHS)
def soup(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Two models of one architecture or more.")
    ],
    *,
    out: Out,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Held-out data; only models that help on it stay.", show_default=False
        ),
    ] = None,
) -> None:
    """Make the mean of several models of one architecture."""
    from frugalclip.verbs import adapt_interpolate as verb

    verb.show(verb.adapt_soup(models, out=out, data=data))
