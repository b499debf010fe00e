"""The model's own tensors in a training checkpoint: which entry holds them, and behind which prefix.

Training loops save `{'epoch', 'model_state_dict', 'loss'}`, `{'model': …}`, an average beside the model, or
the model as one member of a larger module. The entry and the prefix are those under which most names are the
architecture's own. Where two serve equally, usual names decide, and else the user:
`SOURCE#key=ENTRY,prefix=NAMES`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from frugalclip.core.errors import ModelError
from frugalclip.interop.source import TensorSelection

Belongs = Callable[[str], bool]
"""Whether a name may be one of the architecture's own."""

# names that wrappers put between others, wherever they are
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_USUAL = (  # entries of checkpoints; the model itself comes before its average
    *("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights"),
    *("params", "ema", "ema_state_dict", "model_ema", "ema_model", "state_dict_ema", "averaged"),
)
_USUAL_PREFIXES = ("", "module.", "model.", "model.module.", "module.model.", "net.", "network.", "clip.")
_NEVER = ("optim", "sched", "lr_", "scaler", "callback", "loops", "rng", "random")  # entries begin so
_DEPTH = 3  # entries within entries
_LISTED = 8
_RIVAL = 0.5  # of the best one's names, from which another candidate is one too


class Weights(NamedTuple):
    """Tensors by their names in the architecture."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()  # what was chosen where the file leaves a choice


def own_tensors(content: Any, belongs: Belongs, selection: TensorSelection, *, where: str) -> Weights:
    """The model's own tensors in what a file holds.

    Args:
        content: a state dict, or a training checkpoint with one in it.
        belongs: whether a name may be one of the architecture's own.
        selection: entry and prefix as the user named them.
        where: the file, for messages.

    Raises:
        ModelError: where nothing fits, or several entries or prefixes do, with the names of all.
    """
    entries = {".".join(path): tensors for path, tensors in _entries(content, ())}
    if not entries:
        raise ModelError(f"{where} holds no tensors by name{_listed(content)}; expected a state dict.")
    key, note = _chosen_key(entries, belongs, selection, where=where)
    tensors, more = _under_prefix(entries[key], belongs, selection, where=where)
    return Weights(tensors, tuple(one for one in (note, more) if one))


def _entries(content: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Everything in a checkpoint that holds tensors by name, with the keys that lead to it."""
    if not isinstance(content, Mapping) or len(path) > _DEPTH:
        return
    tensors = {_unwrapped(name): one for name, one in content.items() if isinstance(one, Tensor)}
    if tensors:
        yield path, tensors
    for name, value in content.items():
        if isinstance(name, str) and not name.startswith(_NEVER):
            yield from _entries(value, (*path, name))


def _unwrapped(name: object) -> str:
    return ".".join(part for part in str(name).split(".") if part not in _WRAPPERS)


def _chosen_key(
    entries: Mapping[str, Mapping[str, Tensor]], belongs: Belongs, selection: TensorSelection, *, where: str
) -> tuple[str, str]:
    """The entry that holds the model, and a note where others might."""
    if selection.key is not None:
        if selection.key not in entries:
            raise ModelError(
                f"{where} has no tensors by name under '{selection.key}'; it has them under "
                f"{_keys(entries)}. Write {selection.written(key=next(iter(entries)))}."
            )
        return selection.key, ""
    scores = {key: max(_scores(tensors, belongs).values(), default=0) for key, tensors in entries.items()}
    best = max(scores.values())
    rivals = [key for key, score in scores.items() if score >= max(1, _RIVAL * best)] or list(entries)
    first, *others = sorted(rivals, key=_rank)
    if not others:
        return first, ""
    if _rank(first) == len(_USUAL):
        raise ModelError(
            f"{where} holds several sets of weights: {_keys(rivals)}. "
            f"Name one: {selection.written(key=first)}."
        )
    example = selection.written(key=others[0])
    return first, f"weights: '{first}' of {where}, which has {_keys(others)} too; {example} takes that"


def _rank(key: str) -> int:
    """The place of an entry among the usual ones; tensors beside other entries come before those."""
    if not key:
        return -1
    first = key.split(".")[0]
    return _USUAL.index(first) if first in _USUAL else len(_USUAL)


def _under_prefix(
    tensors: Mapping[str, Tensor], belongs: Belongs, selection: TensorSelection, *, where: str
) -> tuple[dict[str, Tensor], str]:
    """The tensors behind the prefix without it, and a note about those that are not."""
    given = _unwrapped(selection.prefix or "")
    given = f"{given}." if given and not given.endswith(".") else given
    behind = {name.removeprefix(given): one for name, one in tensors.items() if name.startswith(given)}
    if not behind:
        starts = list(dict.fromkeys(name.split(".")[0] + "." for name in tensors))
        raise ModelError(
            f"{where} has no names that begin with '{given}'; they begin with {_keys(starts)}. "
            f"Write {selection.written(prefix=starts[0])}."
        )
    prefix = _chosen_prefix(_scores(behind, belongs), selection, given=given, where=where)
    kept = {name.removeprefix(prefix): one for name, one in behind.items() if name.startswith(prefix)}
    left = [name for name in tensors if not name.startswith(given + prefix)]
    if not left:
        return kept, ""
    return kept, (
        f"weights: the names behind '{given + prefix}' of {where}; {len(left)} beside them are left out, "
        f"such as {left[0]}"
    )


def _scores(tensors: Mapping[str, Tensor], belongs: Belongs) -> dict[str, int]:
    """For each prefix the number of names that are the architecture's own behind it."""
    scores: dict[str, int] = {}
    for name in tensors:
        parts = name.split(".")
        for cut in range(len(parts)):
            if belongs(".".join(parts[cut:])):
                prefix = "".join(f"{part}." for part in parts[:cut])
                scores[prefix] = scores.get(prefix, 0) + 1
    return scores


def _chosen_prefix(scores: Mapping[str, int], selection: TensorSelection, *, given: str, where: str) -> str:
    """The prefix behind which most names belong; of several modules that fit, the usual one."""
    if not scores:
        return ""
    best = max(scores, key=lambda prefix: (scores[prefix], -len(prefix)))
    enough = _RIVAL * scores[best]
    rivals = [one for one in scores if scores[one] >= enough and not _nested(one, best)]
    named = next((one for one in _USUAL_PREFIXES if one in (best, *rivals)), None)
    if rivals and named is None:
        raise ModelError(
            f"{where} holds several models, behind {_keys(given + one for one in (best, *rivals))}. "
            f"Name one: {selection.written(prefix=given + best)}."
        )
    return best if named is None else named


def _nested(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _keys(names: Iterable[str]) -> str:
    shown = [f"'{name}'" if name else "the top" for name in names]
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return ", ".join(shown[:_LISTED]) + more


def _listed(content: Any) -> str:
    if not isinstance(content, Mapping) or not content:
        return ""
    return f", only {_keys(map(str, content))}"
