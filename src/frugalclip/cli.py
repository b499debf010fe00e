"""The command line: names, options and one-sentence errors.

A verb is imported when it is called, so `--help` loads no torch. Exit codes: 0 done, 1 a fault of frugalclip
(with its traceback), 2 the input cannot be used, 3 bad data was found, 130 interrupted.
"""

import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from frugalclip import __version__
from frugalclip.core.errors import known_names
from frugalclip.core.messages import UsageError, sentence_of, show_warning

BAD_DATA = 3  # `data verify` found something: a script must not go on as if it had not
INTERRUPTED = 130  # what shells give a process that Ctrl-C ended


class Verbs(TyperGroup):
    """A group that shows its help when called bare and answers an unknown verb with the nearest known one."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            raise UsageError(
                f"'{args[0]}' is not a verb of {ctx.command_path}; "
                f"{known_names(args[0], self.commands, limit=30)}"
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("frugalclip: interrupted; what was not saved yet is lost.", err=True)
            raise typer.Exit(INTERRUPTED) from None


class OptionalVerbs(Verbs):
    """A group that also does something when called bare."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return TyperGroup.parse_args(self, ctx, args)


_ORDER = [
    "demo",
    "doctor",
    "recipes",
    "data",
    "plan",
    "train",
    "compare",
    "evaluate",
    "embed",
    "import",
]  # of the help: the order in which a newcomer meets them
_MARKUP = (
    "rich" if sys.stdout.isatty() else None
)  # boxes for people; plain lines, and half the start-up time, for pipes
_SETTINGS: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": _MARKUP,
    "cls": Verbs,
}
app = typer.Typer(
    help="Vision-language pre-training for people who do not have 400 million pairs.", **_SETTINGS
)
data = typer.Typer(help="Look at a data set, and write its manifest.", **_SETTINGS)
app.add_typer(data, name="data")
recipes = typer.Typer(
    help="List the recipes, or every setting of one.",
    invoke_without_command=True,
    **{**_SETTINGS, "cls": OptionalVerbs},
)
app.add_typer(recipes, name="recipes")

_PATHS = (
    "PATH: the word sample, a folder, CSV/TSV/JSONL/Parquet, WebDataset tars (braces, globs), "
    "a saved Hugging Face dataset, a manifest."
)

Recipe = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A name such as clip, or the path of a YAML file.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Replace settings of the recipe, such as data=my/ or objectives.contrastive.weight=0.5.",
        show_default=False,
    ),
]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A run directory, a checkpoint, open_clip:ARCH@FILE, hf:DIR or timm:NAME@FILE."
    ),
]
DataPath = Annotated[str, typer.Argument(metavar="PATH", help="A data set.")]
DataPaths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH", help="Data sets; data.columns.image=NAME and the like name columns, as for train."
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        metavar="W",
        help="Rows to keep, such as split=train,is_flag=false (also a|b and !=).",
        show_default=False,
    ),
]
Json = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Also write the result as JSON.", show_default=False),
]


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"frugalclip {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", metavar="", help="Show the traceback of an error; may stand anywhere.")
    ] = False,
) -> None:
    """Read by `main`, which takes --debug out wherever it stands; declared here for the help."""


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


@app.command(epilog=_PATHS)
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


@app.command(epilog=_PATHS)
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


@app.command(epilog=_PATHS)
def evaluate(
    model: Model,
    *,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="The data set; for a suite the folder of its packs.", show_default=False
        ),
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            metavar="TASK", help="zeroshot, retrieval, probe, knn, fewshot, grouping, words or suite."
        ),
    ] = "zeroshot",
    where: Where = None,
    label_field: Annotated[
        str | None, typer.Option(metavar="F", help="Field that names the class of a row.", show_default=False)
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Class names that compete, one a line.", show_default=False),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(metavar="SET", help="A prompt set, or a file with one {} a line.", show_default=False),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(metavar="L", help="Language of the captions, such as de.", show_default=False),
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option("--baselines", metavar="", help="Also measure copying from the training images."),
    ] = False,
    baselines_model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Frozen encoder of the feature baseline.", show_default=False),
    ] = None,
    baselines_data: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Training data, if the model's is elsewhere.", show_default=False),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="F", help="Field whose equal values are drawn together.", show_default=False),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(metavar="LAYER", help="Features of probes: embedding or pooled.", show_default=False),
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", metavar="", help="Also evaluate altered copies of the images.")
    ] = False,
    suite: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A suite, one test of it, or a YAML file.", show_default=False),
    ] = None,
    json: Json = None,
) -> None:
    """Evaluate a model, with chance, intervals and baselines."""
    from frugalclip.verbs import evaluate as verb

    verb.show(
        verb.evaluate(
            model,
            data=data,
            task=task,
            where=where,
            label_field=label_field,
            classes=classes,
            prompts=prompts,
            language=language,
            baselines=baselines,
            baselines_model=baselines_model,
            baselines_data=baselines_data,
            group=group,
            robustness=robustness,
            suite=suite,
            features=features,  # pyright: ignore[reportArgumentType]  (the verb names the known ones)
            json=json,
        )
    )


@app.command(epilog=_PATHS)
def embed(
    model: Model,
    path: DataPath,
    *,
    out: Annotated[str, typer.Option(metavar="STORE", help="Folder of the vectors.")],
    where: Where = None,
    what: Annotated[
        Literal["both", "images", "texts"],
        typer.Option(help="What to encode; both means those that the data has."),
    ] = "both",
    dtype: Annotated[
        Literal["float16", "float32", "int8"], typer.Option(help="Numbers on disk.")
    ] = "float16",
    centre: Annotated[
        bool, typer.Option("--centre", metavar="", help="Subtract the mean vector first.")
    ] = False,
    batch: Annotated[
        int, typer.Option(min=1, metavar="N", help="Pictures or captions encoded at once.")
    ] = 256,
) -> None:
    """Store the vectors of a data set.

    Called again it continues where it stopped, and adds the new rows of a grown data set.
    """
    from frugalclip.verbs import embed as verb

    verb.show(
        verb.embed(model, path, out=out, where=where, what=what, dtype=dtype, centre=centre, batch=batch)
    )


@app.command(
    "import",
    epilog="ARCH: a name of open_clip such as ViT-B-32, or its JSON file; FILE: its weights. "
    "DIR: a saved CLIPModel or SiglipModel.",
)
def import_(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="open_clip:ARCH@FILE or hf:DIR.")],
    *,
    out: Annotated[str, typer.Option(metavar="RUN", help="Folder of the model; made if it is not there.")],
) -> None:
    """Read a model of open_clip or Hugging Face.

    Writes a run directory that every verb takes as a MODEL, and prints what was read and what was assumed.
    """
    from frugalclip.verbs import import_model as verb

    verb.show(verb.import_model(source, out=out))


@data.command(epilog=_PATHS)
def check(
    paths: DataPaths,
    full: Annotated[
        bool, typer.Option("--full", metavar="", help="Decode every picture, not a sample of them.")
    ] = False,
) -> None:
    """Recognise a data set, and list what is wrong with it."""
    from frugalclip.verbs import data_check as verb

    places, columns = _places_and_columns(paths)
    verb.show_check(verb.check(places, full=full, columns=columns))


@data.command(epilog=_PATHS)
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

    places, columns = _places_and_columns(paths)
    result = verb.verify(places, repair=repair, out=out, columns=columns)
    verb.show(result)
    if not (result.is_clean or repair):
        raise typer.Exit(BAD_DATA)


@data.command(epilog=_PATHS)
def stats(
    paths: DataPaths,
    full: Annotated[
        bool, typer.Option("--full", metavar="", help="Read every picture and caption of a large data set.")
    ] = False,
    json: Json = None,
) -> None:
    """Count captions, tokens, sizes, copies, languages and fields."""
    from frugalclip.verbs import data_stats as verb

    places, columns = _places_and_columns(paths)
    verb.show_stats(verb.stats(places, full=full, columns=columns, json=json))


@data.command(epilog=_PATHS)
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

    places, columns = _places_and_columns(paths)
    verb.show_manifest(verb.manifest(places, out=out, where=where, columns=columns))


@data.command(epilog=_PATHS)
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

    places, columns = _places_and_columns(paths)
    options = {
        "size": size,
        "format": format,
        "samples_per_shard": samples_per_shard,
        "workers": workers,
        "shuffle": shuffle,
    }
    verb.show_convert(verb.convert(places, to=to, out=out, where=where, columns=columns, **options))


@data.command(
    epilog=f"{_PATHS} KEY=VALUE: settings of the plan, such as canvas=64 or planted.swapped=0.1; "
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

    words, columns = _places_and_columns(paths)
    settings = [word for word in words if re.match(r"\w+(\.\w+)*=", word) and not os.path.exists(word)]
    places = [word for word in words if word not in settings]
    if not places:
        raise UsageError("there are settings but no data set; name one first, such as the word sample.")
    verb.show(
        verb.compose(places, settings, out=out, scenes=scenes, plan=plan, workers=workers, columns=columns)
    )


def _places_and_columns(words: Sequence[str]) -> tuple[list[str], dict[str, str] | None]:
    """Data sets, and the columns named among them in the words that a recipe uses."""
    start = "data.columns."
    columns = dict(
        word.removeprefix(start).split("=", 1) for word in words if word.startswith(start) and "=" in word
    )
    places = [word for word in words if not (word.startswith(start) and "=" in word)]
    if not places:
        raise UsageError(
            "there are columns but no data set; name its path first, such as "
            "pairs.csv data.columns.image=photo."
        )
    return places, columns or None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: words after the program's name; by default those of the process.

    Returns:
        The exit code.

    Raises:
        Exception: whatever is not the user's to mend, or anything with --debug or FRUGALCLIP_DEBUG=1.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or os.environ.get("FRUGALCLIP_DEBUG", "0") not in ("", "0")
    words = [word for word in words if word != "--debug"]  # it may stand at the end of a line that failed
    warnings.showwarning = show_warning
    # Threads that wait for each other spin briefly, then sleep. Spinning long takes the core from the thread
    # they wait for; sleeping at once costs a quarter of the speed on a quiet machine (docs/log.md). Torch
    # reads this when it is loaded, which is after this line.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    try:
        return app(args=words, prog_name="frugalclip", standalone_mode=False) or 0
    except Exception as error:
        if debug or (sentence := sentence_of(error)) is None:
            raise
        typer.echo(sentence, err=True)
        return 2
