"""Backbones without their weights, for `frugalclip plan`: parameters with their names and shapes on the meta device, which takes no memory.

The architecture is known from a folder's config.json, from the facts of a packaged part, or to the library by name.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from frugalclip.backbones.image_encoders import ImageEncoderBackbone, arguments, is_vision_folder
from frugalclip.backbones.language_models import TunedLanguageModelBackbone, language_model_options
from frugalclip.backbones.packages import PACKAGES, SCHEME
from frugalclip.backbones.sources import LITE0, EncoderOptions, image_options, place_of, text_kind
from frugalclip.backbones.text_encoders import TextEncoderBackbone
from frugalclip.backbones.timm import TimmBackbone, fitted
from frugalclip.core.config import validated
from frugalclip.core.errors import ModelError, require
from frugalclip.language_model.frozen import layer_indices
from frugalclip.towers.pretrained import Backbone


def image_shape(source: str, options: Mapping[str, Any], *, size: int) -> Backbone:
    """A backbone of pictures of `size` pixels on a side, on the meta device; see `backbones.image_backbone`.

    Raises:
        ModelError: for a source that is none, or that the library does not know.
        MissingExtra: without timm, or transformers.
    """
    stages = image_options(source, options).stages
    if source.startswith("hf:"):
        return _vision_shape(source)
    name = "tf_efficientnet_lite0" if source == LITE0 else source.removeprefix("timm:").partition("@")[0]
    timm = require("timm", extra="timm", purpose=f"counting the parameters of {source}")
    if not timm.is_model(name):
        raise ModelError(
            f"timm has no model '{name}', expected {LITE0} or timm:NAME@FILE; correct model.image.from."
        )
    with torch.device("meta"):
        module = timm.create_model(name, pretrained=False, num_classes=0)
        fitted(module, name, size=size)
        return TimmBackbone(module, fingerprint="", stages=stages)


def text_shape(source: str, options: Mapping[str, Any], *, tuned: bool) -> Backbone:
    """A backbone of texts on the meta device; see `backbones.text_backbone`. A tuned language model has the blocks that its layer needs.

    Raises:
        ModelError: where only the weights would tell the architecture.
        MissingExtra: without transformers.
    """
    kind = text_kind(source)
    transformers = require("transformers", extra="hf", purpose=f"counting the parameters of {source}")
    with _described(source, key="model.text.from"), torch.device("meta"):
        config = _config(transformers, source)
        module = transformers.AutoModel.from_config(config)
    if kind == "encoder":
        return TextEncoderBackbone(
            module,
            pool=validated(EncoderOptions, dict(options), where="model.text.options").pool,
            fingerprint="",
        )
    requested = language_model_options(options, tuned=tuned)
    layers = layer_indices(requested.read if tuned else -1, count=config.num_hidden_layers)
    return TunedLanguageModelBackbone(module, layers=layers, fingerprint="")


def _vision_shape(source: str) -> Backbone:
    folder = place_of(source)
    if not is_vision_folder(folder):
        raise ModelError(
            f"{folder} holds no image encoder that could be counted, expected a config.json of one; correct model.image.from."
        )
    transformers = require("transformers", extra="hf", purpose=f"counting the parameters of {source}")
    with _described(source, key="model.image.from"), torch.device("meta"):
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        return ImageEncoderBackbone(
            transformers.AutoModel.from_config(config, **arguments(config.model_type)), fingerprint=""
        )


@contextmanager
def _described(source: str, *, key: str) -> Iterator[None]:
    """What transformers raises of a configuration that it cannot use, as one sentence."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # the checks of a configuration raise classes of their own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"the configuration of {source} describes no model that transformers knows ({reason}); check {key}."
        ) from error


def _config(transformers: Any, source: str) -> Any:
    """A configuration of transformers."""
    if source.startswith(SCHEME):
        facts = PACKAGES[source.removeprefix(SCHEME)].config
        if not facts:
            raise ModelError(
                f"{source} computes with an engine of its own, which does not tell; it is never trained."
            )
        return transformers.AutoConfig.for_model(**facts)
    folder = place_of(source)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} has no config.json, and a GGUF file tells at the first run, which converts it; give a Hugging Face folder to count now."
        )
    return transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
