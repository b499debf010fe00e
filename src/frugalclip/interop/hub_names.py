"""Which files of which repository a model by name means: `hf:ORG/NAME`, `open_clip:ARCH@TAG`, `timm:NAME`.

Repositories of open_clip and timm come from the tables of these libraries. Nothing is read and nothing is
fetched here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from frugalclip.core.errors import ModelError, known_names, require
from frugalclip.interop.source import ModelSource

_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_CARD = "README.md"
_PICKLED = "pytorch_model.bin"


@dataclass(frozen=True)
class HubFiles:
    """Files of a repository that a model consists of."""

    repository: str  # ORG/NAME
    needed: tuple[tuple[str, ...], ...]  # one of each tuple, the first that there is
    wanted: tuple[str, ...] = (_CARD,)  # taken where the repository has them
    revision: str | None = None  # branch, tag or commit; None: main
    tag: str = ""  # of the weights, in the library's table
    is_folder: bool = False  # whether the model is the folder, or its first file


def named_files(source: ModelSource) -> HubFiles | None:
    """The files that a source names on the hub; None for one that is a file or folder, or none of the hub's.

    Raises:
        ModelError: for a name that its library does not know.
        MissingExtra: where the library that knows the names is not installed.
    """
    find = _FINDERS.get(source.scheme)
    return None if find is None else find(source)


def _hugging_face(source: ModelSource) -> HubFiles | None:
    match = _REPOSITORY.fullmatch(source.rest)
    if match is None or source.folder.exists() or source.rest.startswith("."):
        return None
    weights = ("model.safetensors", "model.safetensors.index.json", _PICKLED)
    wanted = (
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt"),
        *("preprocessor_config.json", "processor_config.json", "sentence_bert_config.json", "modules.json"),
        *("1_Pooling/config.json", _CARD),
    )
    return HubFiles(match[1], (("config.json",), weights), wanted, match[2], is_folder=True)


def _open_clip(source: ModelSource) -> HubFiles | None:
    tag = source.file
    if tag is None or len(tag.parts) > 1 or tag.suffix or tag.exists():
        return None
    if not source.name or source.name.endswith(".json"):
        return None
    library = require("open_clip", extra="openclip", purpose="open_clip's table of weights")
    plain = source.name.removesuffix("-quickgelu")
    found = library.get_pretrained_cfg(source.name, str(tag)) or library.get_pretrained_cfg(plain, str(tag))
    if not found:
        known = library.list_pretrained_tags_by_model(plain)
        raise ModelError(
            f"open_clip has no weights '{tag}' of {source.name}, and there is no such file; "
            f"{known_names(str(tag), known, limit=20)} Or write open_clip:ARCH@FILE."
        )
    place = str(found.get("hf_hub") or "")
    if not place:
        raise ModelError(
            f"open_clip:{source.name}@{tag} is on no hub but at {found.get('url')}; download that file, and "
            f"write open_clip:{source.name}@FILE."
        )
    repository, _, file = place.partition("/")[2].partition("/")
    weights = (file,) if file else ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    wanted = ("open_clip_config.json", "tokenizer.json", "tokenizer_config.json", _CARD)
    return HubFiles(f"{place.partition('/')[0]}/{repository}", (weights,), wanted, tag=str(tag))


def _timm(source: ModelSource) -> HubFiles | None:
    if source.file is not None or Path(source.rest).exists():
        return None
    library = require("timm", extra="timm", purpose="timm's table of weights")
    architecture = source.name.partition(".")[0]
    if not library.is_model(architecture):
        known = library.list_models()
        raise ModelError(f"timm has no model '{source.name}'; {known_names(architecture, known)}")
    config = library.get_pretrained_cfg(source.name)
    place = getattr(config, "hf_hub_id", None)
    if not place:
        known = [f"{architecture}.{tag}" for tag in library.models.list_pretrained(f"{architecture}.*")]
        raise ModelError(
            f"timm's table has no weights of '{source.name}' on the hub; {known_names(source.name, known)} "
            f"Or write timm:{source.name}@FILE."
        )
    file = config.hf_hub_filename
    weights = (file,) if file else ("model.safetensors", _PICKLED)
    return HubFiles(place, (weights,), ("config.json", _CARD), tag=config.tag or "")


_FINDERS: dict[str, Callable[[ModelSource], HubFiles | None]] = {
    "hf": _hugging_face,
    "open_clip": _open_clip,
    "timm": _timm,
}
