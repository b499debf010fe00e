"""The model card: what a model is, what it was trained on and how good it is, as Markdown.

It is written with every run and every export. Whatever a run does not record is said to be missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from frugalclip.core.records import RunDirectory, write_atomically
from frugalclip.evaluation.metrics import in_percent, metric_name
from frugalclip.report.formats import NBSP, counted, duration, is_finite, is_interval, number, span
from frugalclip.report.record import RunRecord, read_run

_RESULTS = 5  # evaluations in the table: of a fine-tuning, target and guard by two tasks each
_METRICS = 4  # of each, the first ones
LIMITS = (
    "Metrics are of the rows named above; other pictures and words may do better or worse.",
    "Which concepts it names follows from its captions: what they do not mention, it does not know.",
    "It was not examined for fairness, safety or private content.",
)


def write_run_card(run: RunDirectory) -> None:
    """Write `MODEL_CARD.md` from the files of a run.

    Raises:
        ModelError: when the directory holds no run.
    """
    write_atomically(
        run.card, card(run_sections(read_run(run)), use=f'model = frugalclip.load("{run.path}")')
    )


def card(sections: Sequence[str], *, use: str, title: str = "Model card") -> str:
    """The page: sections, limits, and how to load it.

    Args:
        sections: Markdown, such as `run_sections` gives.
        use: the line of Python that loads the model.
        title: of the page.
    """
    lines = ["import frugalclip", "", use, 'vectors = model.encode_image(["a.jpg"])']
    lines.append('words = model.encode_text(["a red car"])')
    limits = "## Limits\n\n" + "\n".join(f"- {line}" for line in LIMITS)
    loading = "## Load it\n\n```python\n" + "\n".join(lines) + "\n```"
    page = "\n\n".join([f"# {title}", *sections, limits, loading]) + "\n"
    return page.replace(NBSP, " ")  # plain text is searched


def run_sections(record: RunRecord) -> list[str]:
    """Sections of a run: the recipe, the data, the training, the metrics."""
    recipe, training = record.recipe, record.training
    named = (f"Recipe `{recipe.get('name', 'unknown')}`", recipe.get("description"), recipe.get("source"))
    notes = "\n".join(f"- {one}" for one in training.get("notes") or ())
    return [
        " ".join(f"{str(one).rstrip('.')}." for one in named if one),
        "## Data\n\n" + "\n".join(_data(record)),
        "## Training\n\n" + "\n".join(_training(record)),
        "## Metrics, in percent\n\n" + "\n".join(_metrics(record.evaluations)),
        *(["## Forgetting\n\n" + forgetting] if (forgetting := _forgetting(record.interpolation)) else []),
        *([f"## Notes\n\n{notes}"] if notes else []),
    ]


def _data(record: RunRecord) -> Iterator[str]:
    data = _mapping(record.recipe.get("data"))
    where = f", rows `{data['where']}`" if data.get("where") else ""
    rows = number(record.training.get("training_rows"))
    yield f"- training: `{data.get('path', 'unknown')}`{where}, {rows} rows"
    left = _mapping(record.training.get("left_out"))
    for cause, count in left.items():
        yield f"- left out: {counted(count, 'row')} ({cause})"
    if not left:
        yield f"- left out: {'nothing' if 'left_out' in record.training else 'not recorded'}"
    known = _mapping(record.training.get("data"))
    yield f"- hash of ids, captions and image places: {_code(known.get('hash'))}"
    yield from _curation(_mapping(known.get("curation")))
    yield f"- licences: {_licences(_mapping(known.get('licences')))}"
    yield f"- leakage: {_leakage(_mapping(record.training.get('leakage')))}"


def _code(value: Any) -> str:
    return f"`{value}`" if value else "not recorded"


def _curation(curation: Mapping[str, Any]) -> Iterator[str]:
    """Rows in and out of every stage, from the ledger's summary."""
    if not curation:
        return
    yield (
        f"- curated by the plan `{curation['plan']}` from `{curation['data']}`: "
        f"{number(curation['kept'])} of {number(curation['rows'])} rows kept"
    )
    for stage in curation["stages"]:
        why = ", ".join(f"{number(count)} {reason}" for reason, count in stage["dropped"].items())
        yield f"  - {stage['name']}: {number(stage['rows_in'])} to {number(stage['rows_out'])} rows" + (
            f" ({why})" if why else ""
        )


def _licences(found: Mapping[str, Any]) -> str:
    """What rows and files name."""
    named = [f"{licence} ({counted(rows, 'row')})" for licence, rows in _mapping(found.get("rows")).items()]
    files = [f"`{name}`" for name in found.get("files") or ()]
    parts = [", ".join(named), f"beside the data lies {', '.join(files)}" if files else ""]
    return "; ".join(part for part in parts if part) or "none found; those of the data apply"


def _leakage(found: Mapping[str, Any]) -> str:
    """How many validation rows have their picture among the training rows."""
    if found.get("checked"):
        images, of = found["images"], found["of"]
        kinds = ", ".join(f"{count} {kind}" for kind, count in _mapping(found.get("kinds")).items())
        where = f"of {number(of)} validation images also among the training images"
        return f"{number(images)} {where}" + (f" ({kinds})" if kinds else "")
    return f"not checked; {found.get('reason', 'the run has no validation rows')}"


def _training(record: RunRecord) -> Iterator[str]:
    training, machine = record.training, record.environment
    yield f"- {number(training.get('steps'))} steps, {number(training.get('samples_seen'))} samples seen"
    yield f"- {number(training.get('parameters'))} trained parameters"
    yield f"- {duration(training.get('seconds'))} on {machine.get('device', 'an unknown device')}"
    yield f"- energy: {_energy(training.get('joules'))}"
    if record.recipe.get("init_from"):
        yield f"- started from `{record.recipe['init_from']}`"
    models = machine.get("models")
    for one in models if isinstance(models, list) else ():
        known = _mapping(one)
        yield (
            f"- read `{known.get('source')}`: revision {known.get('revision')}, licence "
            f"{known.get('licence') or 'not named'}"
        )


def _energy(joules: Any) -> str:
    if not is_finite(joules):
        return "not readable on this machine"
    return f"{number(joules / 3.6e6)} kWh of the processor packages, with whatever else ran on them"


def _forgetting(interpolation: Mapping[str, Any]) -> str:
    """What a fine-tuning lost of its guard, in words; empty for another run."""
    guard, points = _mapping(interpolation.get("guard")), interpolation.get("points")
    if not guard or not isinstance(points, list):
        return ""
    values = {point["alpha"]: point["guard"][guard["headline"]] for point in points}
    start, end, chosen = values[0.0], values[1.0], values[interpolation["alpha"]]
    where = f"On `{interpolation.get('kept')}` ({number(guard.get('rows'))} rows, {guard['headline']})"
    return (
        f"{where} the model that it started from reaches {number(start)} %, this one {number(chosen)} %, and "
        f"the end of the training {number(end)} %."
    )


def _metrics(evaluations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not evaluations:
        yield "No evaluation was recorded; `frugalclip evaluate` makes one."
        return
    yield "| task | rows | metric | value | chance | baselines |"
    yield "|---|---|---|---|---|---|"
    for one in evaluations[:_RESULTS]:
        rows = one.get("where") or one.get("data") or "unknown"
        known = [name for name in _mapping(one.get("metrics")) if name in _mapping(one.get("chance"))]
        for name in known[:_METRICS]:
            cells = (one.get("task"), rows, metric_name(name), *_values(one, name))
            yield f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _values(evaluation: Mapping[str, Any], name: str) -> tuple[str, str, str]:
    """Value with its interval, chance, and the baselines that have the metric."""
    value, interval = evaluation["metrics"][name], _mapping(evaluation.get("interval")).get(name)
    shown = number(value) + (
        f" ({span(interval, in_percent=in_percent(name))})" if is_interval(interval) else ""
    )
    baselines = [
        f"{kind} {number(found[name])}"
        for kind, found in _mapping(evaluation.get("baselines")).items()
        if is_finite(_mapping(found).get(name))
    ]
    return shown, number(evaluation["chance"][name]), ", ".join(baselines) or "none"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
