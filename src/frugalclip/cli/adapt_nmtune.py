"""The verb adapt nmtune."""

from typing import Annotated, Literal

import typer

from frugalclip.cli.groups import PATHS, Json, adapt


@adapt.command(epilog=PATHS)
def nmtune(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="A frozen encoder, a MODEL as for embed.", show_default=False),
    ] = None,
    *,
    data: Annotated[
        str | None, typer.Option(metavar="PATH", help="Labelled data.", show_default=False)
    ] = None,
    label_field: Annotated[
        str | None, typer.Option(metavar="F", help="Field that names the class of a row.", show_default=False)
    ] = None,
    side: Annotated[Literal["image", "text"], typer.Option(help="Features of images or captions.")] = "image",
    out_of_domain: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Data of the same classes, tested only.", show_default=False),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Features of any encoder (.npz), no MODEL.", show_default=False),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Runs of each head.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, metavar="N", help="Of each run.")] = 30,
    json: Json = None,
) -> None:
    """Train heads on frozen features, and NMTune beside them (experimental).

    A linear probe, a residual network, and the network with NMTune's terms, over paired seeds.
    """
    from frugalclip.verbs import adapt_nmtune as verb

    verb.show(
        verb.adapt_nmtune(
            model,
            data=data,
            label_field=label_field,
            side=side,
            out_of_domain=out_of_domain or (),
            features=features,
            seeds=seeds,
            epochs=epochs,
            json=json,
        )
    )
