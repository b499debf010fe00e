"""Networks of timm as backbones of image towers, with weights from a file of the user's own.

Nothing is downloaded: `timm:NAME@FILE` names the architecture and the weights. The backbone's vector is
timm's pooled feature before the classifier. Its tokens are the places of the last feature map, or the patches
of a transformer without its prefix tokens.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from frugalclip.backbones.base import BackboneKind, Side
from frugalclip.backbones.packages import packaged_kind, path_of
from frugalclip.core.config import Settings
from frugalclip.core.devices import without_weights
from frugalclip.core.errors import ModelError, known_names, require
from frugalclip.core.preprocess import Preprocess
from frugalclip.interop.source import EVERYTHING, ModelSource, TensorSelection
from frugalclip.interop.weights import read_weights
from frugalclip.towers.base import KnownClasses
from frugalclip.towers.pretrained import Backbone, BackboneOutput

# beginnings of parameters that a backbone does without, where timm's names have them at the end
CLASSIFIERS = ("classifier.", "fc.", "head.", "head_dist.")
PACKAGED_CLASSIFIER = "_fc"  # as the packaged file names it
# of timm's two variants the one with the padding of the original: the other is silently wrong
LITE0 = "tf_efficientnet_lite0"


class TimmOptions(Settings):
    """`options` of a backbone of timm."""

    stages: bool = Field(
        False, description="take the mean of every stage of a convolutional network beside the pooled feature"
    )


class TimmBackbone(Backbone):
    """A network of timm without its classifier.

    Args:
        module: built with `num_classes=0`.
        fingerprint: of its name and weights.
        stages: concatenate the mean of every stage of a convolutional network with the pooled feature. Early
            stages hold what small drawings look like, late ones what they show.
    """

    def __init__(self, module: nn.Module, *, fingerprint: str, stages: bool = False) -> None:
        super().__init__()
        self.module, self.stages = module, stages
        self.fingerprint = fingerprint
        pooled: Any = getattr(module, "head_hidden_size", module.num_features)
        self.width = int(pooled) + (sum(_stage_widths(module)) if stages else 0)

    def forward(self, inputs: Tensor, *, with_tokens: bool = False) -> BackboneOutput:
        """Encode images (batch, 3, height, width): pooled (batch, width), tokens (batch, patches, width)."""
        module: Any = self.module
        inputs = inputs.contiguous(memory_format=torch.channels_last)  # twice as fast on a CPU
        if self.stages:
            features, earlier = module.forward_intermediates(inputs)
            pooled = torch.cat(
                [*(stage.mean((2, 3)) for stage in earlier), module.forward_head(features, pre_logits=True)],
                dim=1,
            )
        else:
            features = module.forward_features(inputs)
            pooled = module.forward_head(features, pre_logits=True)
        return BackboneOutput(pooled, _tokens(features, module) if with_tokens else None)


def _tokens(features: Tensor, module: Any) -> Tensor:
    """(batch, patches, width) from a feature map (batch, width, rows, columns) or a transformer's tokens."""
    if (
        features.ndim == 4 and getattr(module, "output_fmt", "NCHW") == "NHWC"
    ):  # Swin and others: (batch, rows, columns, width)
        return features.flatten(1, 2)
    return (
        features.flatten(2).transpose(1, 2)
        if features.ndim == 4
        else features[:, getattr(module, "num_prefix_tokens", 0) :]
    )


def _stage_widths(module: Any) -> list[int]:
    if not hasattr(module, "forward_intermediates") or not hasattr(module, "feature_info"):
        raise ModelError(f"{type(module).__name__} of timm has no stages to read; leave options.stages out.")
    with torch.no_grad():
        size = module.pretrained_cfg.get("input_size", (3, 224, 224))[1]
        _, earlier = module.eval().forward_intermediates(torch.zeros(1, 3, size, size))
    return [stage.shape[1] for stage in earlier]


class Timm(BackboneKind[TimmOptions]):
    """A network of timm with weights from a file."""

    form: ClassVar[str] = "timm:NAME@FILE"
    has_weight_file: ClassVar[bool] = True
    sides: ClassVar[tuple[Side, ...]] = ("image",)
    Options = TimmOptions

    @classmethod
    def matches(cls, source: ModelSource) -> bool:
        return source.scheme == "timm" or packaged_kind(source) == "timm"

    def load(self) -> TimmBackbone:
        stages = self.options().stages
        if packaged_kind(self.source) == "timm":
            return read_timm(LITE0, path_of(self.source), stages=stages, in_order=True)
        if self.source.file is None:
            example = f"timm:{self.source.name}@weights.safetensors"
            raise ModelError(f"'{self.source}' names no file; write timm:NAME@FILE, such as {example}.")
        selection = self.source.selection
        return read_timm(
            self.source.name, self.source.file, stages=stages, size=self.use.size, selection=selection
        )

    def on_meta(self) -> TimmBackbone:
        name = LITE0 if self.source.scheme == "package" else self.source.name
        with without_weights():
            module = _module(name)
            fit_to_size(module, name, size=self.use.size)
            return TimmBackbone(module, fingerprint="", stages=self.options().stages)


def read_timm(
    name: str,
    file: Path,
    *,
    stages: bool = False,
    in_order: bool = False,
    size: int | None = None,
    selection: TensorSelection = EVERYTHING,
) -> TimmBackbone:
    """A backbone, with the preprocessing that its weights were trained with.

    Args:
        name: of the architecture in timm.
        file: safetensors, or a pickled state dict of tensors alone.
        stages: see `TimmBackbone`.
        in_order: the file has other names but the same tensors in the same order; every shape is checked.
        size: pixels on a side of the images to come; a network of one size is fitted to it, its position
            embedding interpolated.
        selection: which of the file's tensors are meant.

    Raises:
        ModelError: for a name that timm does not know, or weights that are not those of the architecture.
    """
    module: Any = _module(name).eval()
    own = module.state_dict()
    given = read_weights(file) if in_order else read_weights(file, own.__contains__, selection)
    weights = _matched(module, given.tensors, name=name, file=file, in_order=in_order)
    module.load_state_dict(weights)
    is_fitted = fit_to_size(module, name, size=size)
    module.to(memory_format=torch.channels_last)
    settings = f"timm:{name} stages={stages}{f' size={size}' if is_fitted else ''}"
    digest = hashlib.blake2b(settings.encode(), digest_size=8)
    for key, tensor in sorted(weights.items()):
        content = tensor.contiguous().reshape(-1).view(torch.uint8)  # numpy has no bfloat16
        digest.update(key.encode() + content.numpy().tobytes())
    backbone = TimmBackbone(module, fingerprint=digest.hexdigest(), stages=stages)
    backbone.preprocess = _preprocess(module)
    backbone.classes = _classes(module, given.tensors, width=backbone.width)
    return backbone


def _module(name: str) -> nn.Module:
    """A network of timm without its classifier and without weights."""
    timm = require("timm", extra="timm", purpose="a backbone of timm")
    if not timm.is_model(name):
        raise ModelError(f"timm has no model '{name}'; {known_names(name, timm.list_models())}")
    return timm.create_model(name, pretrained=False, num_classes=0)


def _settings(module: nn.Module) -> dict[str, Any]:
    """How timm says that images are prepared."""
    library = require("timm", extra="timm", purpose="a backbone of timm")
    return library.data.resolve_model_data_config(module)


def _classes(module: Any, given: Mapping[str, Tensor], *, width: int) -> KnownClasses | None:
    """Classes of ImageNet that a file has a linear classifier for, over the last of `width` features."""
    own = module.pretrained_cfg.get("classifier")
    names = [f"{name}.weight" for name in (own, PACKAGED_CLASSIFIER) if isinstance(name, str)]
    weight = next((given[name] for name in names if name in given), None)
    if weight is None or weight.ndim != 2 or weight.shape[1] > width:
        return None
    library = require("timm", extra="timm", purpose="the classes of a backbone of timm")
    subset = library.data.infer_imagenet_subset({"num_classes": len(weight)})
    if subset is None:
        return None
    info = library.data.ImageNetInfo(subset)
    words = tuple(info.index_to_description(i).split(",")[0] for i in range(len(weight)))
    return KnownClasses(words, nn.functional.pad(weight.float(), (width - weight.shape[1], 0)))


def _preprocess(module: nn.Module) -> Preprocess:
    settings = _settings(module)
    return Preprocess(
        size=settings["input_size"][1],
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        interpolation="bilinear" if settings["interpolation"] == "bilinear" else "bicubic",
    )


def fit_to_size(module: Any, name: str, *, size: int | None) -> bool:
    """Fit a network of one image size to another size, in place; True where that was needed.

    Raises:
        ModelError: for a network that cannot be fitted.
    """
    own = _settings(module)["input_size"][1]
    if size in (None, own) or not getattr(module, "pretrained_cfg", {}).get("fixed_input_size"):
        return False
    try:
        module.set_input_size(img_size=(size, size))
    except (AttributeError, AssertionError, ValueError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"timm's {name} encodes images of {own} pixels and cannot be fitted to {size}; "
            f"set model.image.resolution={own}."
        ) from error
    return True


def _matched(
    module: nn.Module, given: dict[str, Tensor], *, name: str, file: Path, in_order: bool
) -> dict[str, Tensor]:
    """The given tensors under the module's names."""
    own = module.state_dict()
    if in_order:
        given = dict(zip(own, given.values(), strict=False))
    kept = {key: value for key, value in given.items() if key in own or not key.startswith(CLASSIFIERS)}
    missing, strange = sorted(own.keys() - kept.keys()), sorted(kept.keys() - own.keys())
    if missing or strange:
        first = f"it lacks {missing[0]}" if missing else f"it has {strange[0]}"
        raise ModelError(f"{file} does not hold the weights of timm's {name} ({first}); check the name.")
    for key, value in kept.items():
        if value.shape != own[key].shape:
            raise ModelError(
                f"{file}: {key} has shape {tuple(value.shape)}, timm's {name} expects "
                f"{tuple(own[key].shape)}; check the name."
            )
    return kept
