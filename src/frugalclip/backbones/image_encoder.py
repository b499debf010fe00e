"""Image encoders of Hugging Face: `hf:DIR` with ViT, DeiT, DINOv2, DINOv3, or half of a CLIP or SigLIP.

The backbone's vector is the one that each model was published with: [CLS] after the last normalisation, or
what SigLIP pools by attention. ViT's and DeiT's `pooler` is left out, a layer that their published
classifiers do not have and that transformers would draw at random. Tokens are the last layer's states of the
patches, without [CLS] and registers.
"""

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from frugalclip.backbones.base import BackboneKind, NoOptions, Side
from frugalclip.backbones.configurations import transformers_config, valid_config
from frugalclip.core.devices import without_weights
from frugalclip.core.errors import ModelError, require
from frugalclip.interop.foreign import understood
from frugalclip.interop.preprocessing import IMAGE_ENCODERS, read_preprocess
from frugalclip.interop.source import ModelSource
from frugalclip.language_model.source import quiet, weights_hash
from frugalclip.towers.pretrained import Backbone, BackboneOutput

POOLERLESS = ("vit", "deit")


class ImageEncoderBackbone(Backbone):
    """An image encoder of Hugging Face's library.

    Args:
        module: the encoder, of a type in `IMAGE_ENCODERS`.
        fingerprint: of its weights and settings.
    """

    def __init__(self, module: Any, *, fingerprint: str) -> None:
        super().__init__()
        self.module, self.fingerprint = module, fingerprint
        # only masked pre-training uses it, and a tuned backbone has no parameter without gradient
        self.module.embeddings.mask_token = None
        config: Any = module.config
        self.width = int(config.hidden_size)
        self.prefix = IMAGE_ENCODERS[config.model_type] + int(getattr(config, "num_register_tokens", 0))
        # these interpolate on request only; the other types always do, or have rotary positions
        on_request = config.model_type in ("vit", "deit", "clip_vision_model", "siglip_vision_model")
        self.arguments = {"interpolate_pos_encoding": True} if on_request else {}

    def forward(self, inputs: Tensor, *, with_tokens: bool = False) -> BackboneOutput:
        """Encode images (batch, 3, height, width): pooled (batch, width), tokens (batch, patches, width)."""
        output: Any = self.module(pixel_values=inputs, **self.arguments)
        states: Tensor = output.last_hidden_state  # (batch, prefix + patches, width)
        pooled = states[:, 0] if output.pooler_output is None else output.pooler_output
        return BackboneOutput(pooled, states[:, self.prefix :] if with_tokens else None)


class ImageEncoder(BackboneKind[NoOptions]):
    """An image encoder in a folder with config.json, preprocessor_config.json and safetensors.

    It encodes images of any size: its position embedding is interpolated.
    """

    form: ClassVar[str] = f"hf:DIR with an image encoder ({', '.join(IMAGE_ENCODERS)})"
    sides: ClassVar[tuple[Side, ...]] = ("image",)
    Options = NoOptions

    @classmethod
    def matches(cls, source: ModelSource) -> bool:
        config = source.config if source.scheme == "hf" else None
        return config is not None and str(config.get("model_type")) in IMAGE_ENCODERS

    @classmethod
    def may_match(cls, source: ModelSource) -> bool:
        return source.scheme == "hf" and source.config is None

    def load(self) -> ImageEncoderBackbone:
        self.options()
        folder = self.source.folder
        with understood(str(folder)):
            preprocess = read_preprocess(folder, defaults={})
        module = _module(folder, self._model_type)
        self._check(module.config, size=self.use.size or preprocess.size)
        backbone = ImageEncoderBackbone(module.eval(), fingerprint=weights_hash(folder))
        backbone.preprocess = preprocess
        return backbone

    def on_meta(self) -> ImageEncoderBackbone:
        purpose = f"counting the parameters of {self.source}"
        transformers = require("transformers", extra="hf", purpose=purpose)
        with valid_config(self.source, "image"), without_weights():
            config = transformers_config(transformers, self.source)
            module = transformers.AutoModel.from_config(config, **_arguments(self._model_type))
            return ImageEncoderBackbone(module, fingerprint="")

    @property
    def _model_type(self) -> str:
        assert self.source.config is not None
        return str(self.source.config["model_type"])

    def _check(self, config: Any, *, size: int) -> None:
        """Refuse an encoder without a vector of an image, and images smaller than a patch."""
        if self._model_type == "siglip_vision_model" and not config.vision_use_head:
            raise ModelError(
                f"{self.source.folder} has no pooling (vision_use_head: false), so its encoder gives no "
                "vector of an image; choose another one."
            )
        if size < config.patch_size:
            raise ModelError(
                f"{self.source.folder} has patches of {config.patch_size} pixels, and images have {size}; "
                f"set model.image.resolution={2 * config.patch_size}."
            )


def _arguments(model_type: str) -> dict[str, Any]:
    """Arguments with which a type of model is built."""
    return {"add_pooling_layer": False} if model_type in POOLERLESS else {}


def _module(folder: Path, model_type: str) -> Any:
    """The encoder of transformers, with all of its weights."""
    transformers = require("transformers", extra="hf", purpose=f"reading {folder}")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} holds no *.safetensors; save the model with save_pretrained of a recent transformers."
        )
    try:
        with quiet(transformers):
            module, report = transformers.AutoModel.from_pretrained(
                str(folder),
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                **_arguments(model_type),
            )
    except Exception as error:  # the checks of configuration and weights raise classes of their own
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{folder} cannot be read as an image encoder of type {model_type} ({first}); copy it again."
        ) from error
    if missing := report["missing_keys"]:
        raise ModelError(
            f"{folder} lacks {len(missing)} tensors of its {model_type}, such as {min(missing)}; copy it "
            "again."
        )
    return module
