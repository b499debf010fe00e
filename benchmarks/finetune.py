"""Fine-tuning that keeps what a model knew, beside plain fine-tuning, on three moves with one fixed setting.

A CLIP of our own is trained on one kind of pictures and moved to another: drawings to stamps and photos,
emoji to medical icons, one drawing style of emoji to another. The guard is what it was trained on. `finetune`
chooses between start and end on validation rows; test rows are read once, for the record. The metric is the
mean of both recalls at 1 among the test rows.

Demanded before the runs: in the mean over seeds, the guard loses at most 1 point on every move, and at least
90 % of the gain of plain fine-tuning is kept. A demand that the runs contradict is not reached.

Writes a record for each move and seed into results/finetune/ as soon as it has ended, and
results/finetune.json. The same command goes on where it was stopped.
Run: FRUGALCLIP_PACKS=... python benchmarks/finetune.py [--seeds 3] [--only MOVE ...] [--predict]
"""

import argparse
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _common import HERE

from frugalclip.adaptation.arms import ARMS, arm_words
from frugalclip.core.records import RunDirectory, environment, read_json, write_json
from frugalclip.evaluation.retrieval import evaluate_retrieval
from frugalclip.evaluation.suite import packs_folder
from frugalclip.models import Model, load
from frugalclip.sources.open import open_data, read_source
from frugalclip.training.loop import train_run
from frugalclip.training.optim import finetuning_rate
from frugalclip.training.planning import plan_recipe
from frugalclip.training.recipe import load_recipe
from frugalclip.verbs.finetune import finetune
from frugalclip.verbs.train import train

RESULT = HERE.parent / "results" / "finetune.json"
RECORDS, RUNS = HERE.parent / "results" / "finetune", HERE.parent / "runs" / "finetune"
START, SAMPLES = "clip-small", 48_000  # of the start
MOST_LOSS, LEAST_KEPT = 1.0, 90.0  # points of the guard, percent of the gain
PLAIN = next(arm for arm in ARMS if arm.name == "full")


@dataclass(frozen=True)
class Move:
    """From one kind of pictures to another."""

    name: str
    guard: str  # file in the folder of packs: what the start is trained on
    target: str
    where: str = ""  # further condition on the rows of the guard

    def rows(self, split: str, *, of_guard: bool) -> str:
        """The condition of a split."""
        return f"split={split}" + (f",{self.where}" if of_guard and self.where else "")


MOVES = (
    Move("drawings-to-stamps-and-photos", "clipart.tar", "{stamps,photos}.tar"),
    Move("emoji-to-medical-icons", "emoji-{noto,twemoji,openmoji}.tar", "healthicons.tar", "is_flag=false"),
    Move("one-style-to-another", "emoji-noto.tar", "emoji-openmoji.tar", "is_flag=false"),
)


def mean_r1(model: Model, path: str, where: str) -> float:
    """Mean of both recalls at 1 on some rows, in percent."""
    metrics = evaluate_retrieval(model, open_data(path, where=where), draws=0)["metrics"]
    return (metrics["i2t_r1"] + metrics["t2i_r1"]) / 2


def measured(model: Model, move: Move, packs: Path) -> dict[str, float]:
    """Guard and target of a model on test rows."""
    return {
        side: round(mean_r1(model, str(packs / file), move.rows("test", of_guard=side == "guard")), 4)
        for side, file in (("guard", move.guard), ("target", move.target))
    }


def words_of(move: Move, packs: Path, seed: int) -> list[str]:
    """Settings of the fine-tuning, the same on every move but for the data."""
    return [
        f"data={packs / move.target}",
        f"data.where={move.rows('train', of_guard=False)}",
        f"data.validation={move.rows('val', of_guard=False)}",
        f"guard.where={move.rows('val', of_guard=True)}",
        "evaluation.baselines=false",
        "threads=1",
        f"seed={seed}",
    ]


def run_move(move: Move, seed: int, *, packs: Path, samples: int, steps: int | None) -> dict[str, Any]:
    """Start, plain fine-tuning and ours of one move and seed; finished runs are read, others go on."""
    folder = RUNS / f"{move.name}-{seed}"
    start = RunDirectory(folder / "start")
    own = [f"data={packs / move.guard}", f"data.where={move.rows('train', of_guard=True)}", f"seed={seed}"]
    own += [
        f"data.validation={move.rows('val', of_guard=True)}",
        "epochs=",
        f"samples={samples}",
        "threads=1",
    ]
    train(
        START,
        [*own, "evaluation.points=2", "evaluation.baselines=false"],
        out=start.path,
        resume=start.is_run(),
    )
    length = [] if steps is None else ["epochs=", f"steps={steps}"]
    words, ours = [*words_of(move, packs, seed), *length], RunDirectory(folder / "ours")
    guard = str(packs / move.guard)
    tuned = finetune(start.path, words, guard=guard, out=ours.path, resume=ours.is_run())
    recipe = load_recipe(
        "finetune",
        [
            *(f"init_from={start.path}", f"guard.path={guard}", *words),
            *arm_words(PLAIN, rate=finetuning_rate(load(start.path).network)),
        ],
    )
    plain = RunDirectory(folder / "plain")
    assert recipe.data.path is not None
    source = read_source(recipe.data.path)
    end = train_run(recipe, source.manifest, plain, resume=plain.is_run(), read=source.ledger)
    models = {"start": load(start.path), "plain": end.model, "ours": load(ours.path)}
    return {
        "move": move.name,
        "seed": seed,
        "alpha": tuned.interpolation["alpha"],
        "stopped": tuned.interpolation["stopped"],
        "samples_of_start": samples,
        "steps": tuned.trained.steps,
        "test": {name: measured(model, move, packs) for name, model in models.items()},
    }


def summary(records: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds, and whether what was demanded is reached."""
    found: dict[str, Any] = {}
    for move in dict.fromkeys(record["move"] for record in records):
        tests = [record["test"] for record in records if record["move"] == move]
        loss = {
            arm: [one["start"]["guard"] - one[arm]["guard"] for one in tests] for arm in ("plain", "ours")
        }
        gain = {
            arm: [one[arm]["target"] - one["start"]["target"] for one in tests] for arm in ("plain", "ours")
        }
        kept = 100 * sum(gain["ours"]) / sum(gain["plain"]) if sum(gain["plain"]) > 0 else None
        lost = statistics.mean(loss["ours"])
        found[move] = {
            "seeds": len(tests),
            "guard_lost": {arm: round(statistics.mean(values), 2) for arm, values in loss.items()},
            "target_gained": {arm: round(statistics.mean(values), 2) for arm, values in gain.items()},
            "gain_kept_percent": None if kept is None else round(kept, 1),
            "is_reached": lost <= MOST_LOSS and kept is not None and kept >= LEAST_KEPT,
        }
    return found


def predicted_hours(moves: list[Move], *, seeds: int, packs: Path, samples: int, steps: int | None) -> float:
    """Hours of the runs that have no record yet, from the measured time of a step of the start."""
    total = 0.0
    for move in moves:
        left = sum(not record_of(move, seed).is_file() for seed in range(seeds))
        recipe = load_recipe(
            START, [f"data={packs / move.guard}", "epochs=", f"samples={samples}", "threads=1"]
        )
        step = plan_recipe(recipe, probe=True).step
        assert step is not None
        a_sample = step.seconds / recipe.batch
        rows = len(open_data(str(packs / move.target), where="split=train"))
        tuning = load_recipe("finetune")
        tuned = tuning.batch * steps if steps is not None else (tuning.epochs or 1) * rows
        total += left * 1.5 * a_sample * (samples + 2 * tuned)  # half as much again for evaluation and curve
    return total / 3600


def record_of(move: Move, seed: int) -> Path:
    """Where a move and seed is recorded."""
    return RECORDS / f"{move.name}-{seed}.json"


def main() -> None:
    """Predict, run what has no record, and write the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], choices=[move.name for move in MOVES])
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of the start")
    parser.add_argument("--steps", type=int, help="of the fine-tuning; default its recipe's epochs")
    parser.add_argument("--predict", action="store_true")
    chosen = parser.parse_args()
    packs = packs_folder(None)
    if packs is None:
        parser.error("set FRUGALCLIP_PACKS to the folder of the packs")
    moves = [move for move in MOVES if not chosen.only or move.name in chosen.only]
    lengths = {"packs": packs, "samples": chosen.samples, "steps": chosen.steps}
    print(
        f"{predicted_hours(moves, seeds=chosen.seeds, **lengths):.2f} hours predicted, one thread", flush=True
    )
    if chosen.predict:
        return
    for seed in range(chosen.seeds):
        for move in moves:
            if not record_of(move, seed).is_file():
                write_json(record_of(move, seed), run_move(move, seed, **lengths))
                print(read_json(record_of(move, seed)), flush=True)
    records = [read_json(path) for path in sorted(RECORDS.glob("*.json"))]
    write_json(RESULT, {"moves": summary(records), "records": records, "environment": environment()})
    for name, found in summary(records).items():
        print(name, found)


if __name__ == "__main__":
    main()
