"""Backbones of pretrained towers by their source: `package:NAME`, `timm:NAME@FILE`, `hf:DIR`.

What a source holds decides how it is read: a folder with a causal language model answers prompts (`language_models`), one with an encoder gives the
vector of a sentence (`encoders`) or of a picture (`vision`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from frugalclip.backbones.image_encoders import is_vision_folder, read_vision
from frugalclip.backbones.language_models import (
    LanguageModelOptions,
    language_model_options,
    prompted_tokenizer,
    read_language_model,
)
from frugalclip.backbones.packages import SCHEME, package_path
from frugalclip.backbones.text_encoders import E5Backbone, Pool, encoder_tokenizer, read_encoder
from frugalclip.backbones.timm import read_timm
from frugalclip.core.config import Settings, validated
from frugalclip.core.errors import ModelError, RecipeError, known_names
from frugalclip.core.records import read_json
from frugalclip.core.types import Strings, Tokens
from frugalclip.data.tokens import Tokenizer
from frugalclip.interop.tokenizers import Verbatim
from frugalclip.language_model.prompts import find_prompt
from frugalclip.language_model.source import CAUSAL
from frugalclip.loading.views import Preprocess
from frugalclip.towers.pretrained import Backbone, BackboneOutput

LITE0 = "package:efficientnet-lite0"
Kind = Literal["timm", "encoder", "language_model", "e5"]


class ImageOptions(Settings):
    """`options` of an image backbone of timm."""

    stages: bool = Field(
        False, description="read the mean of every stage of a convolutional network beside the pooled feature"
    )


class EncoderOptions(Settings):
    """`options` of a pretrained text encoder."""

    pool: Pool = Field(
        "mean", description="what the vector is read from: mean over tokens, first token, or end token"
    )
    context: int | None = Field(
        None,
        ge=3,
        description="longest text in tokens; null: 256, or what the encoder reads where that is less",
    )


class E5Options(Settings):
    """`options` of package:e5."""

    role: Literal["query", "passage"] = Field(
        "query", description="the word that the model wants before a text"
    )


class SideBySide(Backbone):
    """Several encoders of texts as one: each reads the text with its own tokenizer, and their vectors stand side by side.

    Args:
        backbones: two or more, each with one vector a text.
        tokenizers: of each.
    """

    def __init__(self, backbones: Sequence[Backbone], tokenizers: Sequence[Tokenizer]) -> None:
        super().__init__()
        self.backbones, self.tokenizers = nn.ModuleList(backbones), list(tokenizers)
        self.width = sum(backbone.width for backbone in backbones)
        self.fingerprint = "+".join(backbone.fingerprint for backbone in backbones)

    def forward(self, inputs: Strings, *, with_tokens: bool = False) -> BackboneOutput:
        """Read texts: (batch, sum of the widths)."""
        if with_tokens:
            raise ModelError(
                "encoders side by side split a text in different ways and give no tokens; name one backbone in model.text.from."
            )
        output: list[Tensor] = []
        for backbone, tokenizer in zip(self.backbones, self.tokenizers, strict=True):
            read = tokenizer.encode(inputs.texts)
            if isinstance(read, Tokens):
                device = next(backbone.parameters()).device
                read = Tokens(read.ids.to(device), read.lengths.to(device))
            output.append(backbone(read).pooled)
        if any(part.ndim != 2 for part in output):
            raise ModelError(
                "encoders side by side give one vector a text each, and one of these gives several; name it alone in model.text.from."
            )
        return BackboneOutput(torch.cat([part.float().cpu() for part in output], dim=1))


def image_backbone(source: str, options: Mapping[str, Any], *, size: int | None = None) -> Backbone:
    """A backbone of pictures, with the preprocessing that its weights were trained with.

    Args:
        source: `package:NAME`, `timm:NAME@FILE`, or `hf:DIR` with an image encoder.
        options: see `ImageOptions`; an image encoder of Hugging Face has none.
        size: pixels on a side of the pictures, which a transformer with places of its own is fitted to; default what it was trained with.

    Raises:
        ModelError: for a source that is not one of pictures, or cannot be read.
        MissingExtra: where a library or a packaged part is not installed.
    """
    requested = image_options(source, options)
    if source.startswith("hf:"):
        return read_vision(place_of(source), size=size)
    if (
        source == LITE0
    ):  # of timm's two variants the one with the padding of the original: the other is silently wrong
        return read_timm(
            "tf_efficientnet_lite0", package_path(source), stages=requested.stages, in_order=True
        )
    if source.startswith("timm:"):
        name, at, file = source.removeprefix("timm:").partition("@")
        if not at:
            raise ModelError(
                f"'{source}' names no file; write timm:NAME@FILE, such as timm:{name}@weights.safetensors."
            )
        return read_timm(name, Path(file), stages=requested.stages, size=size)
    raise _no_image_backbone(source)


def reads_images(source: str) -> bool:
    """Whether the backbone of a source reads pictures, from its name or its config.json; no weights are read."""
    return (
        source == LITE0
        or source.startswith("timm:")
        or (source.startswith("hf:") and is_vision_folder(place_of(source)))
    )


def text_kind(source: str) -> Kind:
    """What a source of texts is, from its name or its config.json; no weights are read."""
    if source.startswith(SCHEME):
        known: dict[str, Kind] = {
            "package:minilm": "encoder",
            "package:smollm2": "language_model",
            "package:e5": "e5",
        }
        if source not in known:
            raise ModelError(f"'{source}' is no text backbone; {known_names(source, known)}")
        return known[source]
    path = Path(source.removeprefix("hf:"))
    if path.suffix == ".gguf":
        return "language_model"
    config = path / "config.json"
    if not config.is_file():
        raise ModelError(
            f"{path} has no config.json, expected a folder that Hugging Face's library saved, or a GGUF file."
        )
    if is_vision_folder(path):
        raise ModelError(
            f"{path} holds an image encoder, expected one of texts or a causal language model; name it in model.image.from."
        )
    content = read_json(config)
    names = (content.get("architectures") if isinstance(content, dict) else None) or []
    return "language_model" if any(str(name).endswith(CAUSAL) for name in names) else "encoder"


def place_of(source: str) -> Path:
    """The file or folder that a source names."""
    return package_path(source) if source.startswith(SCHEME) else Path(source.removeprefix("hf:"))


def text_backbone(
    source: str, options: Mapping[str, Any], *, tuned: bool = False, device: str | torch.device = "cpu"
) -> Backbone:
    """A backbone of texts.

    Args:
        source: `package:NAME`, `hf:DIR`, or a GGUF file.
        options: see `EncoderOptions`, `LanguageModelOptions` and `E5Options`.
        tuned: whether its weights, or additions to them, are trained; a language model is then read by `TunedLanguageModelBackbone`.
        device: where a frozen language model computes.
    """
    kind, where = text_kind(source), "model.text.options"
    if kind == "e5":
        return E5Backbone(role=validated(E5Options, dict(options), where=where).role)
    if kind == "encoder":
        requested = validated(EncoderOptions, dict(options), where=where)
        return read_encoder(place_of(source), pool=requested.pool, context=requested.context)[0]
    return read_language_model(
        place_of(source), language_model_options(options, tuned=tuned), tuned=tuned, device=device
    )


def _no_image_backbone(source: str) -> ModelError:
    return ModelError(
        f"'{source}' is no image backbone; expected timm:NAME@FILE, hf:DIR, {LITE0}, or a model whose image tower is pretrained."
    )


def image_options(
    source: str, options: Mapping[str, Any], *, where: str = "model.image.options"
) -> ImageOptions:
    """Settings of the reader of an image backbone.

    Raises:
        ModelError: for a packaged part that reads no pictures.
        RecipeError: for settings that it does not know; an image encoder of Hugging Face has none.
    """
    if source.startswith(SCHEME) and source != LITE0:
        raise _no_image_backbone(source)
    if options and source.startswith("hf:"):
        raise RecipeError(
            f"{where} ({', '.join(options)}) have no effect on {source}, which is read as it is; set {where}=null."
        )
    return validated(ImageOptions, dict(options), where=where)


def check_text_options(source: str, options: Mapping[str, Any], *, tuned: bool, where: str) -> None:
    """Refuse settings that the reader of a source does not know; of a folder that is not here yet, those that no reader knows.

    Raises:
        RecipeError: naming the setting and the known ones, or where the source cannot be tuned.
        ModelError: for a packaged part or a prompt that is not known.
    """
    is_here = not source.startswith("hf:") or (place_of(source) / "config.json").is_file()
    has_prompt = bool(options.keys() & LanguageModelOptions.model_fields.keys())
    kind = text_kind(source) if is_here else "language_model" if has_prompt else None
    if kind == "e5" and tuned:
        raise RecipeError(
            f"{source} is read as it is, and its weights cannot be trained; leave model.text.tune and model.text.lora out."
        )
    if kind == "language_model":
        language_model_options(options, tuned=tuned, where=where)
    elif kind is not None:
        validated(E5Options if kind == "e5" else EncoderOptions, dict(options), where=where)
    else:
        known = {*EncoderOptions.model_fields, *LanguageModelOptions.model_fields}
        if unknown := [name for name in options if name not in known]:
            raise RecipeError(f"{where}.{unknown[0]} is not a setting; {known_names(unknown[0], known)}")


def vectors_of_text(options: Mapping[str, Any]) -> int:
    """Vectors that a frozen backbone gives a text, from its options: the facets of a language model's prompt, otherwise one."""
    return (
        len(find_prompt(options["prompt"]).facets)
        if "prompt" in options and options.get("states") != "next_word"
        else 1
    )


def text_tokenizer(source: str, options: Mapping[str, Any], *, tuned: bool = False) -> Tokenizer:
    """The tokenizer in front of a backbone of texts, without its weights; see `text_backbone`."""
    kind = text_kind(source)
    if kind == "encoder":
        requested = validated(EncoderOptions, dict(options), where="model.text.options")
        return encoder_tokenizer(place_of(source), context=requested.context)
    if kind == "language_model" and tuned:
        return prompted_tokenizer(place_of(source), language_model_options(options, tuned=True))
    return Verbatim()


def check_preprocess(source: str, given: Preprocess, own: Preprocess) -> str | None:
    """Refuse pictures that are normalised in another way than a backbone was trained with; the size is the recipe's own affair.

    Returns:
        What else differs, cutting and resizing, with the settings to write; None where nothing does.

    Raises:
        RecipeError: with the settings to write.
    """
    if any(abs(a - b) > 1e-6 for a, b in zip((*given.mean, *given.std), (*own.mean, *own.std), strict=True)):
        mean, std = list(own.mean), list(own.std)
        raise RecipeError(
            f"{source} was trained with mean {mean} and std {std}; set preprocess.mean={mean} preprocess.std={std}."
        )
    wanted = {
        name: value
        for name in ("resize", "crop", "interpolation")
        if (value := getattr(own, name)) != getattr(given, name)
    }
    words = " ".join(f"preprocess.{name}={value}" for name, value in wanted.items())
    return (
        f"{source} was trained with pictures prepared in another way; {words} prepares them so"
        if wanted
        else None
    )
