"""`frugalclip import`: a model of another library becomes a run directory of ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from frugalclip.backbones.find import modality
from frugalclip.core.errors import ModelError
from frugalclip.core.locks import contents, writes_into
from frugalclip.core.records import RunDirectory, environment, publish_folder, write_json
from frugalclip.core.stored import read_object
from frugalclip.core.terminal import Terminal
from frugalclip.core.users_text import command_line
from frugalclip.interop.formats import foreign_formats
from frugalclip.interop.hub import find_source, used_models
from frugalclip.models import Model, load

RECORD = "import.json"  # in the place of recipe.yaml: nothing was trained here
FORMAT = 1
STEP = 0


@dataclass(frozen=True)
class ImportResult:
    """The model, and its run directory."""

    model: Model
    run: RunDirectory


@writes_into("out")
def import_model(source: str, *, out: str | Path) -> ImportResult:
    """Write a foreign model as a run directory, which every verb takes as MODEL.

    Args:
        source: `open_clip:ARCH@FILE` or `hf:DIR`.
        out: folder to make; an earlier import of the same source is replaced.

    Returns:
        The model and its run directory.

    Raises:
        ModelError: for a source that cannot be read, or a folder that holds something else.
        MissingExtra: where the source needs a library that is not installed.
    """
    parsed, formats = find_source(source), foreign_formats()
    if modality(parsed) != "both":
        raise ModelError(
            f"{source} encodes images or texts alone, and a run directory holds a model of both. 'frugalclip "
            "embed' takes it as it is, 'frugalclip evaluate' too where it encodes images, and a recipe can "
            "use it as a backbone (model.image.from, model.text.from)."
        )
    if parsed.scheme not in formats:
        expected = " or ".join(sorted(one.form for one in formats.values()))
        raise ModelError(
            f"'{source}' is no model of another library; expected {expected}. Runs of ours need no import: "
            "every verb takes them."
        )
    run = RunDirectory(out)
    _check_out(run, source)
    model = load(source)
    assert model.origin is not None
    with publish_folder(run.checkpoint(STEP)) as folder:  # no optimiser: it is loaded, not resumed
        model.save(folder)
        write_json(folder / "state.json", {"format": FORMAT, "step": STEP, "imported": True})
    write_json(run.environment, environment() | ({"models": models} if (models := used_models()) else {}))
    write_json(
        run.path / RECORD,
        {"format": FORMAT, "given": source, **model.origin, "fingerprint": model.fingerprint},
    )
    return ImportResult(model, run)


def _check_out(run: RunDirectory, source: str) -> None:
    """Refuse a folder that is neither empty nor an import of the same source."""
    if run.path.is_file():
        raise ModelError(f"{run.path} is a file; give a new folder with --out.")
    if not run.path.is_dir() or not contents(run.path):
        return
    record = run.path / RECORD
    given = read_object(record).get("given") if record.is_file() else None
    if given != source:
        what = f"an import of {given}" if given else "something else than an import"
        raise ModelError(f"{run.path} holds {what}; give an empty or new folder with --out.")


def show(result: ImportResult) -> None:
    """Print the model's settings, what was assumed, and the next command."""
    console, model = Terminal(), result.model
    origin = model.origin or {}
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in _rows(model, origin):
        table.add_row(name, Text(value))
    console.print(Text(f"{result.run.path}: {origin['source']}", style="bold"), soft_wrap=True)
    console.print(table)
    for note in origin["notes"]:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)
    console.print(
        Text(f"next: {command_line('evaluate', result.run.path, '--data', 'sample')}"), soft_wrap=True
    )


def _rows(model: Model, origin: dict[str, Any]) -> list[tuple[str, str]]:
    network, preprocess = model.network, model.preprocess
    counts = [
        sum(parameter.numel() for parameter in part.parameters())
        for part in (network, network.image, network.text)
    ]
    cut = "the centre square" if preprocess.resize == "shorter" else "squashed to a square"
    is_filled = getattr(network.config.text, "fill", None) is not None
    texts = "padding is attended to" if is_filled else "padding is not attended to"
    rows = [
        ("architecture", f"{origin['architecture']}, embeddings of {model.dim}"),
        ("activation", origin["activation"]),
        ("parameters", f"{counts[0]:,}: image tower {counts[1]:,}, text tower {counts[2]:,}"),
        ("scale", f"{network.scale().item():.2f}"),
        (
            "tokenizer",
            f"{model.tokenizer.size:,} tokens, at most {model.tokenizer.context} a text, {texts}",
        ),
        (
            "images",
            f"{preprocess.size} pixels, {preprocess.interpolation}, {cut}; "
            f"mean {_three(preprocess.mean)}, standard deviation {_three(preprocess.std)}",
        ),
    ]
    bias = origin.get("logit_bias")
    return (
        rows
        if bias is None
        else [*rows, ("logit bias", f"{bias:.4g}: objectives.sigmoid.bias={bias:.4g} goes on from there")]
    )


def _three(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
