"""The groups of verbs, and the arguments that several verbs share."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from frugalclip.core.errors import UsageError, known_names

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
    "curate",
    "ledger",
    "audit",
    "advise",
    "plan",
    "train",
    "compare",
    "finetune",
    "compress",
    "adapt",
    "evaluate",
    "embed",
    "search",
    "serve",
    "import",
    "export",
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
ledger = typer.Typer(help="Read the ledger of a curation, and take a stage back.", **_SETTINGS)
app.add_typer(ledger, name="ledger")
audit = typer.Typer(help="Know before and after training what the data lacks.", **_SETTINGS)
app.add_typer(audit, name="audit")
adapt = typer.Typer(help="Train or mix on top of a finished model.", **_SETTINGS)
app.add_typer(adapt, name="adapt")
search = typer.Typer(help="Find images by words or by an image, through an index.", **_SETTINGS)
app.add_typer(search, name="search")
recipes = typer.Typer(
    help="List the recipes, or every setting of one.",
    invoke_without_command=True,
    **{**_SETTINGS, "cls": OptionalVerbs},
)
app.add_typer(recipes, name="recipes")
PATHS = (
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
        metavar="MODEL",
        help="A run directory, a checkpoint, open_clip:ARCH@FILE, hf:DIR, onnx:DIR or timm:NAME@FILE; by "
        "name hf:ORG/NAME, open_clip:ARCH@TAG or timm:NAME.",
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
Batch = Annotated[int, typer.Option(min=1, metavar="N", help="Pictures or captions encoded at once.")]
Json = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Also write the result as JSON.", show_default=False),
]


def places_and_columns(words: Sequence[str]) -> tuple[list[str], dict[str, str] | None]:
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


def whole_numbers(text: str, *, option: str) -> list[int]:
    """The numbers of a list such as `1,2,4`.

    Raises:
        UsageError: naming the option and what is no number.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if wrong := next((word for word in words if not word.isdecimal()), None):
        raise UsageError(f"{option} has '{wrong}'; write whole numbers with commas, such as 1,2,4.")
    return [int(word) for word in words]
