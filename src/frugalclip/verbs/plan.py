"""`frugalclip plan`: what a recipe costs, before anything runs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from frugalclip.core.overrides import as_pairs
from frugalclip.core.paths import user_path
from frugalclip.core.progress import in_minutes
from frugalclip.core.records import write_json
from frugalclip.core.terminal import Terminal, styled
from frugalclip.training.planning import UNKNOWN, OpenPlan, Plan, plan_recipe
from frugalclip.training.readings import Reading
from frugalclip.training.recipe import load_recipe
from frugalclip.training.shorthands import example_of

LEAST_EXAFLOPS = 0.05  # of a run that is measured in GPU hours
GPU_RATE = 150e12  # operations a second, assumed: an A100-class GPU at half of its bfloat16 peak


def plan(
    recipe: str,
    overrides: Sequence[str] = (),
    *,
    probe: bool = False,
    json: str | Path | None = None,
    **settings: Any,
) -> Plan | OpenPlan:
    """Count passes, parameters, memory and arithmetic of a recipe; needs no data.

    Args:
        recipe: name or path.
        overrides: `key=value` pairs.
        probe: also run a few real steps on random input.
        json: file to write the plan to.
        settings: settings of the recipe, as `train` takes them.

    Raises:
        RecipeError: if the recipe does not describe a run.
    """
    loaded = load_recipe(recipe, [*overrides, *as_pairs(settings)])
    missing = loaded.missing()
    planned = (
        OpenPlan(loaded.name, loaded.description, missing) if missing else plan_recipe(loaded, probe=probe)
    )
    if json is not None:
        write_json(user_path(json), planned.to_json())
    return planned


def show(plan: Plan | OpenPlan) -> None:
    """Print a plan."""
    console = Terminal()
    if isinstance(plan, OpenPlan):
        console.print(styled("[bold]{name}[/]: {what}", name=plan.recipe, what=plan.description))
        example = example_of(plan.missing)
        console.print(f"{plan.unknown}; add: {example}", highlight=False)
        return
    status = "" if plan.run_here else "  [yellow]not run here[/]"
    console.print(styled("[bold]{name}[/]: {what}" + status, name=plan.recipe, what=plan.description))
    console.print(_passes(plan))
    costs = Table("what", "how much", show_header=False, title="a run")
    for name, value in (("time on this machine", _time(plan)), *_lengths(plan), *_sizes(plan), *_rates(plan)):
        costs.add_row(name, value)
    console.print(costs)
    for note in plan.notes:
        console.print(f"note: {note}", highlight=False)


def _passes(plan: Plan) -> Table:
    stages = ["stage"] if any(one.stage for one in plan.passes) else []
    table = Table(*stages, "tower", "view", "tokens", "GFLOP forward, a sample", title="passes of a step")
    for one in plan.passes:
        stage = [one.stage] if stages else []
        table.add_row(*stage, one.tower, one.view, str(one.tokens), f"{one.gflops:.3f}")
    return table


def _sizes(plan: Plan) -> Iterator[tuple[str, str]]:
    for name, number in plan.parameters.items():
        yield f"parameters: {name}", f"{number:,}"
    for name, gigabytes in plan.memory_gb.items():
        yield f"memory at batch {plan.batch:,}: {name}", f"{gigabytes:.2f} GB (estimate)"


def _lengths(plan: Plan) -> Iterator[tuple[str, str]]:
    yield "training rows", _number(plan.rows)
    yield "steps", _number(plan.steps)
    yield "samples seen", _number(plan.samples)
    for reading in plan.readings:
        yield f"encoded once by the frozen {reading.tower} backbone", _reading(reading)


def _time(plan: Plan) -> str:
    """How long the run takes here, first of all."""
    if plan.seconds is not None:
        return f"{in_minutes(plan.seconds)}, without evaluation"
    encoding = [one.seconds for one in plan.readings if one.seconds is not None]
    if encoding and len(encoding) == len(plan.readings):
        return f"{in_minutes(sum(encoding))} to encode the data once, and the steps"
    if plan.step is not None:
        return f"{in_minutes(1000 * plan.step.seconds)} for 1,000 steps; the number of steps needs data=PATH"
    return "unknown; --probe measures it"


def _rates(plan: Plan) -> Iterator[tuple[str, str]]:
    if plan.step is not None:
        seconds = plan.step.seconds
        speed = f"{seconds:.3f} s a step, {plan.batch / seconds:.0f} samples a second ({plan.step.origin})"
        yield "speed on this machine", speed
    if plan.probe is not None:
        yield "memory above start, measured", f"{plan.probe['peak_memory_gb']:.2f} GB"
    gflops = f"{plan.gflops_per_sample:.2f} GFLOP forward and backward, {plan.precision}"
    yield "arithmetic, a sample", gflops
    if plan.exaflops is None:
        yield "arithmetic, the run", UNKNOWN
        return
    if plan.exaflops < LEAST_EXAFLOPS:
        yield "arithmetic, the run", f"{plan.exaflops * 1e6:,.3g} TFLOP"
        return
    hours = plan.exaflops * 1e18 / GPU_RATE / 3600
    rate = f"{hours:.3g} GPU hours if one sustains {GPU_RATE / 1e12:.0f} TFLOP/s"
    yield "arithmetic, the run", f"{plan.exaflops:.3g} EFLOP: {rate}"


def _reading(reading: Reading) -> str:
    if reading.samples is None or reading.store_gb is None:
        return UNKNOWN
    what = "images, their views counted" if reading.tower == "image" else "distinct texts"
    cost = (
        "arithmetic unknown (gflops is not set)"
        if reading.gflops is None
        else f"{reading.gflops * 1e-3:.3g} TFLOP"
    )
    time = "" if reading.seconds is None else f"{in_minutes(reading.seconds)}, "
    return f"{reading.samples:,} {what}: {time}{cost}, a store of {reading.store_gb:.3g} GB"


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"
