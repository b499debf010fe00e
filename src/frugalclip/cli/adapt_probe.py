"""The verb adapt probe."""

from typing import Annotated, Literal

import typer

from frugalclip.cli.groups import PATHS, Json, Where, adapt, whole_numbers


@adapt.command(epilog=PATHS)
def probe(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A MODEL as for embed, or a store of its vectors.")
    ],
    *,
    data: Annotated[str, typer.Option(metavar="PATH", help="Labelled data.")],
    where: Where = None,
    label_field: Annotated[
        str | None, typer.Option(metavar="F", help="Field that names the class of a row.", show_default=False)
    ] = None,
    prompts: Annotated[
        str, typer.Option(metavar="SET|FILE", help="Prompts of the zero-shot weights.")
    ] = "plain",
    features: Annotated[
        Literal["embedding", "pooled"], typer.Option(help="The joint space, or the tower before it.")
    ] = "embedding",
    shots: Annotated[str, typer.Option(metavar="N,N", help="Examples of each class.")] = "1,2,4,8,16",
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="How often they are drawn.")] = 5,
    out_of_domain: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Data of the same classes, tested only.", show_default=False),
    ] = None,
    json: Json = None,
) -> None:
    """Fit classifiers to a few examples of each class, on frozen features.

    Zero-shot, a linear probe, a probe that stays near to the zero-shot weights, a small network.
    """
    from frugalclip.verbs import adapt_probe as verb

    result = verb.adapt_probe(
        model,
        data=data,
        where=where,
        label_field=label_field,
        prompts=prompts,
        features=features,
        shots=whole_numbers(shots, option="--shots"),
        seeds=seeds,
        out_of_domain=out_of_domain or (),
        json=json,
    )
    verb.show(result)
