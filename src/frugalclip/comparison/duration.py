"""How long the trials of a comparison will take, before they start."""

from collections.abc import Sequence

from frugalclip.comparison.jobs import Trial
from frugalclip.comparison.trial import trial_recipe
from frugalclip.core.devices import pick_device
from frugalclip.core.errors import FrugalclipError
from frugalclip.core.progress import in_minutes
from frugalclip.training.planning import plan_recipe
from frugalclip.training.speeds import known_speed, step_key


def duration_in_words(trials: Sequence[Trial], *, jobs: int) -> str:
    """The expected time of the trials that are missing, in one sentence.

    An arm's speed is that of its finished trials, of an earlier run on this machine, or of a short probe.

    Args:
        trials: of the comparison, with their records.
        jobs: trials at a time.
    """
    missing = [trial for trial in trials if not trial.is_finished]
    if not missing:
        return "Every trial is finished."
    rates = {arm: _seconds_a_sample(arm, trials) for arm in dict.fromkeys(trial.arm for trial in missing)}
    unknown = [arm for arm, rate in rates.items() if rate is None]
    seconds = sum((rates[trial.arm] or 0.0) * (trial.job.samples or 0) for trial in missing) / jobs
    is_known = any(rate is not None for rate in rates.values())
    about = f"about {in_minutes(seconds)} of training steps" if is_known else "an unknown time"
    besides = f", besides {', '.join(unknown)}, whose speed is not known" if unknown and is_known else ""
    return f"{len(missing):,} trials to train: {about}{besides}; start, baselines and evaluation come on top."


def _seconds_a_sample(arm: str, trials: Sequence[Trial]) -> float | None:
    """Seconds of a sample in the training steps of an arm, or None where they cannot be told."""
    own = [trial for trial in trials if trial.arm == arm]
    done = [one.training for one in own if one.is_finished and one.training.get("samples_seen")]
    if done:
        return sum(float(one["seconds"]) for one in done) / sum(float(one["samples_seen"]) for one in done)
    if own[0].job.recipe is None:
        return None
    try:
        recipe = trial_recipe(own[0].job)
        speed = known_speed(step_key(recipe, pick_device(recipe.device)))
        speed = speed or plan_recipe(recipe, probe=not recipe.model.pretrained_towers()).step
    except (FrugalclipError, RuntimeError):  # the trial itself will say what is wrong
        return None
    return None if speed is None else speed.seconds / recipe.batch
