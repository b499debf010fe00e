"""The verbs that train: demo, doctor, recipes, plan, train, compress, compare."""

from typing import Annotated, Literal

import typer

from frugalclip.cli.groups import (
    INTERRUPTED,
    PATHS,
    DataPath,
    Json,
    Model,
    Overrides,
    Recipe,
    Where,
    app,
    recipes,
)


@app.command()
def demo(out: Annotated[str, typer.Option(metavar="RUN", help="Folder of the run.")] = "runs/demo") -> None:
    """Train on the shipped pairs, evaluate, write a report."""
    from frugalclip.verbs import demo as verb

    result = verb.demo(out=out)
    verb.show(result)
    if not result.evaluations:  # stopped by Ctrl-C; another call goes on
        raise typer.Exit(INTERRUPTED)


@app.command()
def doctor() -> None:
    """Check the installation, and print the commands that repair it."""
    from frugalclip.verbs import doctor as verb

    verb.show(verb.doctor())


@recipes.callback()
def _recipes(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        from frugalclip.verbs import recipes as verb

        verb.show(verb.recipes())


@recipes.command("show")
def show_recipe(name: Recipe, overrides: Overrides = None) -> None:
    """Print every setting of a recipe: value, unit, default, source."""
    from frugalclip.verbs import recipes as verb

    verb.show_reference(verb.recipe_reference(name, overrides or ()))


@app.command(epilog=PATHS)
def advise(
    path: DataPath,
    *,
    hours: Annotated[float, typer.Option(metavar="H", help="That training may take, all runs together.")],
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder of the advice, and of what is run.")],
    run: Annotated[
        bool, typer.Option("--run", metavar="", help="Train too, until the time is over or nothing can win.")
    ] = False,
    where: Where = None,
    label_field: Annotated[
        str | None, typer.Option(metavar="F", help="Field that names the class of a row.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Rank this model too, as it is and trained further.", show_default=False
        ),
    ] = None,
) -> None:
    """Rank the ways to a model: predicted metric with interval, time, memory, and why (experimental).

    With --run the cheapest is trained first, then what can still win; the best run is named at the end.
    """
    from frugalclip.verbs import advise as verb

    found = verb.advise(
        path, hours=hours, out=out, run=run, where=where, label_field=label_field, model=model
    )
    verb.show(found)


@app.command(epilog=PATHS)
def train(
    recipe: Recipe,
    overrides: Overrides = None,
    *,
    out: Annotated[str, typer.Option(metavar="RUN", help="Folder of the run; made if it is not there.")],
    resume: Annotated[
        bool, typer.Option("--resume", metavar="", help="Go on from the last checkpoint in RUN.")
    ] = False,
) -> None:
    """Train a model by a recipe."""
    from frugalclip.verbs import train as verb

    result = verb.train(recipe, overrides or (), out=out, resume=resume)
    verb.show(result)
    if (
        not result.is_finished
    ):  # stopped by Ctrl-C, saved, and said so; a script must not go on as if it were done
        raise typer.Exit(INTERRUPTED)


@app.command(epilog=PATHS)
def compress(
    model: Model,
    overrides: Overrides = None,
    *,
    recipe: Annotated[
        str, typer.Option(metavar="R", help="A recipe that takes a teacher: tinyclip-manual, tinyclip-auto.")
    ] = "tinyclip-manual",
    out: Annotated[str, typer.Option(metavar="RUN", help="Folder of the run; made if it is not there.")],
    resume: Annotated[
        bool, typer.Option("--resume", metavar="", help="Go on from the last checkpoint in RUN.")
    ] = False,
) -> None:
    """Make a smaller model that starts from a larger one and learns from it.

    keep=0.5 is the share of the parameters that stays, without token embedding.
    """
    from frugalclip.verbs import compress as verb

    result = verb.compress(model, recipe, overrides or (), out=out, resume=resume)
    verb.show(result)
    if not result.trained.is_finished:
        raise typer.Exit(INTERRUPTED)


@app.command(epilog=PATHS)
def finetune(
    model: Model,
    overrides: Overrides = None,
    *,
    guard: Annotated[str, typer.Option(metavar="PATH", help="Data that the model must not forget.")],
    out: Annotated[str, typer.Option(metavar="RUN", help="Folder of the run; made if it is not there.")],
    recipe: Annotated[str, typer.Option(metavar="R", help="How it is trained.")] = "finetune",
    resume: Annotated[
        bool, typer.Option("--resume", metavar="", help="Go on from the last checkpoint in RUN.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", metavar="", help="Also train plain and cheap arms, in one table.")
    ] = False,
) -> None:
    """Train a finished model further, and keep what it knew.

    Afterwards the weights between start and end are measured, and those that keep the guard are chosen.
    """
    from frugalclip.verbs import finetune as verb

    result = verb.finetune(
        model, overrides or (), guard=guard, out=out, recipe=recipe, resume=resume, compare=compare
    )
    verb.show(result)
    if not result.trained.is_finished:
        raise typer.Exit(INTERRUPTED)


@app.command(epilog=PATHS)
def compare(
    arms: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE...",
            help="Two recipes or more; NAME:RECIPE names one, an arm file has a command, "
            "KEY=VALUE replaces a setting of every recipe.",
        ),
    ],
    *,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder of the comparison; the next call resumes it.")
    ],
    seeds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Runs of every arm: 3 to screen, 6 to claim.")
    ] = 3,
    samples: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Samples that every run sees.", show_default=False)
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="S", help="Or its seconds; speeds are measured.", show_default=False),
    ] = None,
    fractions: Annotated[
        str | None,
        typer.Option(metavar="F", help="Fractions of the pairs, such as 1/8,1/4,1.", show_default=False),
    ] = None,
    full_data: Annotated[
        list[str] | None,
        typer.Option(metavar="ARM", help="An arm to train on all pairs only.", show_default=False),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="PATH", help="The data set.", show_default=False)
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Which rows train, which are evaluated.", show_default=False),
    ] = None,
    hold_out: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Hold out each of its values in turn.", show_default=False),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="SPLIT", help="Split to evaluate on, such as validation.", show_default=False),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="ARM", help="Arm to compare with; default the first.", show_default=False),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="J", help="Trials at a time.")] = 1,
    clock: Annotated[
        Literal["auto", "cpu", "wall"], typer.Option(help="Which clock seconds are of.")
    ] = "auto",
    independent_seeds: Annotated[
        bool, typer.Option("--independent-seeds", metavar="", help="Separate randomness for each arm.")
    ] = False,
) -> None:
    """Compare recipes, with seeds and intervals.

    Trains every arm several times, tests the paired differences, and writes a report.
    """
    from frugalclip.verbs import compare as verb

    result = verb.compare(
        arms,
        out=out,
        seeds=seeds,
        samples=samples,
        seconds=seconds,
        fractions=fractions,
        full_data=full_data or (),
        data=data,
        protocol=protocol,
        hold_out=hold_out,
        split=split,
        reference=reference,
        jobs=jobs,
        clock=clock,
        independent_seeds=independent_seeds,
    )
    verb.show(result)
    if result["is_stopped"]:  # by Ctrl-C; what is finished was compared, and the next call resumes
        raise typer.Exit(INTERRUPTED)


@app.command()
def plan(
    recipe: Recipe,
    overrides: Overrides = None,
    probe: Annotated[
        bool, typer.Option("--probe", metavar="", help="Also time a real step on this machine.")
    ] = False,
    json: Json = None,
) -> None:
    """Count what a recipe costs, before it runs.

    Passes, parameters, memory and arithmetic; needs no data.
    """
    from frugalclip.verbs import plan as verb

    verb.show(verb.plan(recipe, overrides or (), probe=probe, json=json))
