"""`frugalclip plan`: what a recipe costs, before anything runs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from frugalclip.core.records import write_json
from frugalclip.training.planning import UNKNOWN, Plan, Reading, plan_recipe
from frugalclip.training.recipe import load_recipe

GPU_RATE = 150e12  # operations a second, assumed: an A100-class GPU at half of its bfloat16 peak


def plan(
    recipe: str, overrides: Sequence[str] = (), *, probe: bool = False, json: str | Path | None = None
) -> Plan:
    """Count passes, parameters, memory and arithmetic of a recipe; needs no data.

    Args:
        recipe: name or path.
        overrides: `key=value` pairs.
        probe: also run a few real steps on random input.
        json: file to write the plan to.

    Raises:
        RecipeError: if the recipe does not describe a run.
    """
    planned = plan_recipe(load_recipe(recipe, overrides), probe=probe)
    if json is not None:
        write_json(Path(json), planned.to_json())
    return planned


def show(plan: Plan) -> None:
    """Print a plan."""
    console = Console()
    status = "" if plan.run_here else "  [yellow]not run here[/]"
    console.print(f"[bold]{plan.recipe}[/]: {plan.description}{status}", highlight=False)
    console.print(_passes(plan))
    costs = Table("what", "how much", show_header=False, title="a run")
    for name, value in (*_sizes(plan), *_lengths(plan), *_measured(plan)):
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
    gflops = f"{plan.gflops_per_sample:.2f} GFLOP forward and backward, {plan.precision}"
    yield "arithmetic, a sample", gflops


def _lengths(plan: Plan) -> Iterator[tuple[str, str]]:
    for reading in plan.readings:
        yield f"encoded once by the frozen {reading.tower} backbone", _reading(reading)
    yield "training rows", _number(plan.rows)
    yield "steps", _number(plan.steps)
    yield "samples seen", _number(plan.samples)
    if plan.exaflops is None:
        yield "arithmetic, the run", UNKNOWN
        return
    hours = plan.exaflops * 1e18 / GPU_RATE / 3600
    rate = f"{hours:.3g} GPU hours if one sustains {GPU_RATE / 1e12:.0f} TFLOP/s"
    yield "arithmetic, the run", f"{plan.exaflops:.3g} EFLOP: {rate}"


def _measured(plan: Plan) -> Iterator[tuple[str, str]]:
    if plan.probe is None:
        return
    seconds = plan.probe["seconds_per_step"]
    yield "measured here", f"{seconds:.3f} s a step, {plan.probe['samples_per_second']:.0f} samples a second"
    yield "measured here: memory above start", f"{plan.probe['peak_memory_gb']:.2f} GB"
    if plan.steps is not None:
        yield "the run on this machine", f"{plan.steps * seconds / 3600:.2f} hours, without evaluation"


def _reading(reading: Reading) -> str:
    if reading.samples is None or reading.store_gb is None:
        return UNKNOWN
    what = "images, their views counted" if reading.tower == "image" else "distinct texts"
    cost = (
        "arithmetic unknown (gflops is not set)"
        if reading.gflops is None
        else f"{reading.gflops * 1e-3:.3g} TFLOP"
    )
    return f"{reading.samples:,} {what}: {cost}, a store of {reading.store_gb:.3g} GB"


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"
