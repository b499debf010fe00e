"""Pretrained towers get their backbones: when a model is built or loaded, and without weights for a plan."""

from functools import partial

import torch

from frugalclip.backbones import find
from frugalclip.backbones.base import BackboneKind, OpenModel, Side, Use, WholeModel
from frugalclip.backbones.concatenated import ConcatenatedBackbone
from frugalclip.backbones.described import DescribedBackbone
from frugalclip.core.errors import MissingExtra, ModelError, RecipeError
from frugalclip.core.preprocess import Preprocess
from frugalclip.data.tokens import Tokenizer
from frugalclip.interop.hub import find_source
from frugalclip.interop.source import ModelSource
from frugalclip.interop.tokenizers import PassThroughTokenizer
from frugalclip.towers.dual import DualEncoder
from frugalclip.towers.pretrained import (
    Backbone,
    PretrainedConfig,
    PretrainedImageConfig,
)


def attach_backbones(
    network: DualEncoder, open_model: OpenModel, *, device: str | torch.device = "cpu"
) -> DualEncoder:
    """Tell the pretrained towers of a network where to get their backbones; tuned ones are loaded at once.

    Args:
        network: with any towers.
        open_model: opens models whose tower is a backbone.
        device: where a frozen language model computes.

    Returns:
        The network.
    """
    for side, tower in network.pretrained_towers().items():
        tower.attach(partial(_load, tower.config, _side(side), open_model, device))
    return network


def attach_backbones_on_meta(network: DualEncoder, open_model: OpenModel) -> dict[str, str]:
    """Give the pretrained towers of a network on the meta device backbones without weights.

    Args:
        network: with any towers; those whose backbone cannot be told without its weights stay without.
        open_model: opens models whose tower is a backbone.

    Returns:
        For each side whose backbone is not known, why.

    Raises:
        RecipeError: for a wrong `width`, or a pattern of `tune` or `lora` that matches nothing.
    """
    reasons = {}
    for side, tower in network.pretrained_towers().items():
        try:
            tower.attach(partial(_on_meta, tower.config, _side(side), open_model))
            _ = tower.attached  # a frozen one is made when it is first used
        except (MissingExtra, ModelError) as error:
            reasons[side] = str(error)
    return reasons


def backbone_tokenizer(config: PretrainedConfig, open_model: OpenModel) -> Tokenizer:
    """The tokenizer in front of a text tower's backbone; several backbones take texts as they are.

    Args:
        config: of the tower.
        open_model: opens models whose tower is a backbone.
    """
    kinds = _kinds(config, "text", open_model)
    return kinds[0].tokenizer() if len(kinds) == 1 else PassThroughTokenizer()


def check_options(config: PretrainedConfig, *, side: Side) -> None:
    """Refuse `options` of a tower that its backbones do not know, before any weights are read.

    Args:
        config: of the tower.
        side: of the tower.

    Raises:
        RecipeError: naming the setting and the known ones.
        ModelError: where a source is not one of this side.
    """
    for source, use in _uses(config, side, _no_model):
        find.check_source_options(source, use)


def check_preprocess(source: str, given: Preprocess, own: Preprocess) -> str | None:
    """Refuse images that are normalised in another way than a backbone was trained with.

    Args:
        source: of the backbone, for messages.
        given: preprocessing of the model; its size is not compared.
        own: preprocessing of the backbone's training.

    Returns:
        What else differs (resizing and cropping) with the settings to write; None where nothing does.

    Raises:
        RecipeError: with the settings to write.
    """
    if any(abs(a - b) > 1e-6 for a, b in zip((*given.mean, *given.std), (*own.mean, *own.std), strict=True)):
        mean, std = list(own.mean), list(own.std)
        raise RecipeError(
            f"{source} was trained with mean {mean} and std {std}; "
            f"set preprocess.mean={mean} preprocess.std={std}."
        )
    wanted = {
        name: value
        for name in ("resize", "crop", "interpolation")
        if (value := getattr(own, name)) != getattr(given, name)
    }
    if not wanted:
        return None
    settings = " ".join(f"preprocess.{name}={value}" for name, value in wanted.items())
    return f"{source} was trained on images prepared in another way; {settings} prepares them alike"


def _load(
    config: PretrainedConfig, side: Side, open_model: OpenModel, device: str | torch.device
) -> Backbone:
    kinds = _kinds(config, side, open_model, device=device)
    backbones = [kind.load() for kind in kinds]
    if len(backbones) == 1:
        return _described(backbones[0], config)
    return ConcatenatedBackbone(backbones, [kind.tokenizer() for kind in kinds])


def _on_meta(config: PretrainedConfig, side: Side, open_model: OpenModel) -> Backbone:
    backbones = [kind.on_meta() for kind in _kinds(config, side, open_model)]
    return _described(backbones[0], config) if len(backbones) == 1 else ConcatenatedBackbone(backbones, [])


def _described(backbone: Backbone, config: PretrainedConfig) -> Backbone:
    """The backbone with what stands beside it."""
    names = config.descriptors if isinstance(config, PretrainedImageConfig) else ()
    return DescribedBackbone(backbone, names) if names else backbone


def _kinds(
    config: PretrainedConfig, side: Side, open_model: OpenModel, *, device: str | torch.device = "cpu"
) -> list[BackboneKind]:
    uses = _uses(config, side, open_model, device=device)
    return [find.find_backbone(source, use) for source, use in uses]


def _uses(
    config: PretrainedConfig, side: Side, open_model: OpenModel, *, device: str | torch.device = "cpu"
) -> list[tuple[ModelSource, Use]]:
    """The sources of a tower's backbones, with how the tower uses each."""
    uses = []
    for i, (text, options) in enumerate(config.backbones):
        where = f"model.{side}.options" + (f".{i}" if len(config.backbones) > 1 else "")
        size = config.resolution if isinstance(config, PretrainedImageConfig) else None
        use = Use(side, open_model, size=size, is_tuned=not config.is_frozen, device=device, where=where)
        uses.append((find_source(text, options), use))
    return uses


def _side(name: str) -> Side:
    return "image" if name == "image" else "text"


def _no_model(source: str) -> WholeModel:
    raise AssertionError(f"options of {source} are checked without opening it")
