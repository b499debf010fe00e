"""`frugalclip advise`: which way to a model suits a data set and some hours, and the model if asked."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from frugalclip.advising.advice import new_advice
from frugalclip.advising.durations import Durations, probed_step
from frugalclip.advising.given import GivenModel
from frugalclip.advising.options import MARGIN, Option, options_for
from frugalclip.advising.predict import shipped_predictor
from frugalclip.advising.profile import DataProfile, measured_rows, profile_data
from frugalclip.advising.race import Race, TrialRun
from frugalclip.advising.records import shipped_runs
from frugalclip.advising.routes import FINETUNE
from frugalclip.advising.trial_runs import run_option
from frugalclip.core.errors import ModelError, TrainingError, UsageError
from frugalclip.core.locks import writes_into
from frugalclip.core.overrides import as_pairs
from frugalclip.core.paths import user_path
from frugalclip.core.progress import in_minutes
from frugalclip.core.records import write_json
from frugalclip.core.terminal import Terminal
from frugalclip.core.users_text import command_line
from frugalclip.report.advice import write_advice_report
from frugalclip.report.advice_table import show_ranking
from frugalclip.sources.open import open_data
from frugalclip.verbs.adapt_interpolate import adapt_soup

MOST_HOURS = 10_000.0
SECOND_SEED = 1


@writes_into("out")
def advise(
    path: str | Path,
    *,
    hours: float,
    out: str | Path,
    run: bool = False,
    where: str | None = None,
    label_field: str | None = None,
    model: str | Path | None = None,
) -> dict[str, Any]:
    """Rank the ways to a model of a data set, and run them if asked.

    Args:
        path: the data set.
        hours: that training may take, all runs together.
        out: folder of the advice; runs go into `out/runs`. The next call goes on with what is there.
        run: train too: the cheapest first, then what can still win, until the time is over.
        where: condition of the rows to train on.
        label_field: field that names the classes.
        model: a MODEL to measure as it is, and to train further; beside the routes that need none.

    Returns:
        The content of `advice.json` (docs/formats.md).

    Raises:
        DataError, ModelError, TrainingError, UsageError: one sentence each, with the next command.
    """
    if not 0 < hours <= MOST_HOURS:
        raise UsageError(f"--hours is {hours:g}; expected more than 0 and at most {MOST_HOURS:,.0f}.")
    everything = open_data(path)
    profile = profile_data(everything, where=where, label_field=label_field)

    def measure(source: str | Path) -> GivenModel:
        return GivenModel.measure(source, measured_rows(everything, where=where), label_field=label_field)

    given = None if model is None else measure(model)
    durations = Durations(shipped_runs(), step_seconds=probed_step())
    more = [] if given is None else given.routes
    options = options_for(profile, str(path), shipped_predictor(), durations, more=more)
    named = {"data.where": where, "evaluation.label_field": label_field}
    settings = as_pairs({key: value for key, value in named.items() if value is not None})
    behind = len(shipped_runs().runs)
    advice = new_advice(
        str(path), hours, profile, options, given=given, settings=settings, runs_behind_it=behind
    )
    folder = user_path(out)
    _write(folder, advice)
    if run:
        _Runs(advice, profile, settings, folder).race(options, durations, given, measure)
    return advice


class _Runs:
    """Runs options into a folder, and writes into the advice what they reach.

    Args:
        advice: to write into.
        profile: of the data.
        settings: `key=value` pairs of the user's.
        folder: of the advice.
    """

    def __init__(
        self, advice: dict[str, Any], profile: DataProfile, settings: Sequence[str], folder: Path
    ) -> None:
        self.advice, self.profile, self.settings, self.folder = advice, profile, list(settings), folder
        self.console, self.end = Terminal(), time.monotonic() + 3600 * advice["hours"]

    def race(
        self,
        options: Sequence[Option],
        durations: Durations,
        given: GivenModel | None,
        measure: Callable[[Path], GivenModel],
    ) -> None:
        """Run what is worth it, and choose; `measure` measures a model as runs are measured."""
        show_ranking(self.advice, self.console)
        race = Race(
            options,
            durations,
            pairs=self.profile.pairs,
            seconds=self.end - time.monotonic(),
            run=self.train,
            told=self.told,
            known=None if given is None else given.trial,
        )
        best = race.finish()
        if best is None:
            raise TrainingError(_nothing_finished(self.advice))
        if best.name == FINETUNE:
            best = self.with_soup(next(one for one in options if one.name == FINETUNE), best, measure)
        self.advice["chosen"] = best.to_json()
        _write(self.folder, self.advice)

    def train(self, option: Option, seconds: float, name: str = "", more: Sequence[str] = ()) -> TrialRun:
        """Run one option within so many seconds; it may have another name and further settings."""
        about = (
            "for a time that is not known"
            if option.seconds is None
            else f"about {in_minutes(option.seconds)}"
        )
        self.console.print(f"{name or option.name} is run, {about} …", highlight=False)
        return run_option(
            option,
            seconds=seconds,
            data=self.advice["data"],
            settings=[*self.settings, *more],
            profile=self.profile,
            out=self.folder,
            name=name,
        )

    def told(self, trial: TrialRun) -> None:
        """Print and record a trial."""
        reached = trial.message if trial.value is None else f"{trial.value:.1f} %"
        self.console.print(f"{trial.name}: {reached}, {in_minutes(trial.seconds)}", highlight=False)
        self.advice["trials"].append(trial.to_json())
        _write(self.folder, self.advice)

    def with_soup(self, option: Option, best: TrialRun, measure: Callable[[Path], GivenModel]) -> TrialRun:
        """The better of a fine-tuned model and its mean with one of another seed, where time is left."""
        left = self.end - time.monotonic()
        if MARGIN * best.seconds > left:
            return best
        other = self.train(option, left, f"{FINETUNE}-seed-{SECOND_SEED}", [f"seed={SECOND_SEED}"])
        self.told(other)
        if other.value is None:
            return best
        better = max((best, other), key=lambda one: one.value or 0.0)
        mean, begun = self.folder / "runs" / "soup", time.monotonic()
        if not mean.is_dir():
            try:
                adapt_soup([best.folder, other.folder], out=mean)
            except ModelError as error:  # batch normalisation, whose statistics do not survive a mean
                self.console.print(str(error), highlight=False)
                return better
        value = measure(mean).value
        trial = TrialRun("soup", value, time.monotonic() - begun, str(mean))
        self.told(trial)
        return max((better, trial), key=lambda one: one.value or 0.0)


def _write(folder: Path, advice: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "advice.json", advice)
    write_advice_report(folder / "report.html", advice)


def _nothing_finished(advice: dict[str, Any]) -> str:
    if not advice["trials"]:
        times = [one["seconds"] for one in advice["options"] if one["seconds"] is not None]
        least = f"; the shortest takes {in_minutes(min(times))}" if times else ""
        return f"no route ends within {in_minutes(3600 * advice['hours'])}{least}; give more --hours."
    return f"no run finished; the first ended with: {advice['trials'][0]['message']}"


def show(advice: dict[str, Any]) -> None:
    """Print the advice, or what running it led to."""
    console = Terminal()
    if advice["chosen"] is None:
        show_ranking(advice, console)
        first = next((one for one in advice["ranking"] if one["fits"]), None)
        if first is not None:
            console.print(f"Next: {first['command']}", highlight=False, soft_wrap=True)
        return
    chosen = advice["chosen"]
    baseline = max(advice["profile"]["baselines"].values(), default=advice["profile"]["chance"])
    beside = f"best baseline {baseline:.1f} %"
    console.print(
        f"Best: {chosen['name']}, {chosen['value']:.1f} % ({beside}), in {chosen['run']}.",
        highlight=False,
        soft_wrap=True,
    )
    next_words = ("evaluate", chosen["run"], "--data", advice["data"], "--baselines")
    console.print(f"Next: {command_line(*next_words)}", highlight=False, soft_wrap=True)
