"""Where pretrained towers get their backbones from, and lexical heads their words."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from frugalclip.core.errors import MissingExtra, ModelError
from frugalclip.core.records import read_json
from frugalclip.data.tokens import Tokenizer
from frugalclip.functional import unit
from frugalclip.interop.tokenizers import Verbatim
from frugalclip.language_model import FrozenLanguageModel, Lexicon
from frugalclip.models.model import Model, load
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.towers.heads.lexical import LexicalHead
from frugalclip.towers.pretrained import (
    Backbone,
    BackboneOutput,
    PretrainedConfig,
    PretrainedImageConfig,
)


def attach_backbones(network: DualEncoder, *, device: str | torch.device = "cpu") -> DualEncoder:
    """Tell the pretrained towers of a network where to get their backbones; those that are tuned are fetched at once.

    Args:
        network: with any towers.
        device: where a language model computes.

    Returns:
        The network.
    """
    for side, tower in network.pretrained_towers().items():
        c = tower.config
        image = functools.partial(_image_backbone, *c.backbones[0], size=getattr(c, "resolution", None))
        tower.attach(
            image
            if side == "image"
            else functools.partial(_text_backbone, c.backbones, device, tuned=not c.is_frozen)
        )
    return network


def attach_backbones_on_meta(network: DualEncoder) -> dict[str, str]:
    """Give the pretrained towers of a network on the meta device backbones without weights, so that parameters are counted and patterns checked.

    Args:
        network: with any towers; those whose backbone cannot be told without its weights stay without.

    Returns:
        For each side whose backbone is not known, why.

    Raises:
        RecipeError: for a wrong `width`, or a pattern of `tune` or `lora` that matches nothing.
    """
    reasons = {}
    for side, tower in network.pretrained_towers().items():
        try:
            tower.attach(functools.partial(_shape, tower.config, side))
            _ = tower.attached  # a frozen one is fetched when it is first read
        except (MissingExtra, ModelError) as error:
            reasons[side] = str(error)
    return reasons


def _shape(config: PretrainedConfig, side: str) -> Backbone:
    """A backbone on the meta device; of a whole model that is here, its tower as it is."""
    from frugalclip.backbones.shapes import image_shape, text_shape
    from frugalclip.backbones.sources import SideBySide

    def of(source: str, options: Mapping[str, Any]) -> Backbone:
        if not is_backbone(source):
            return _tower(source, options, side="image" if side == "image" else "text").to("meta")
        if isinstance(config, PretrainedImageConfig):
            return image_shape(source, options, size=config.resolution)
        return text_shape(source, options, tuned=not config.is_frozen)

    shapes = [of(source, options) for source, options in config.backbones]
    return shapes[0] if len(shapes) == 1 else SideBySide(shapes, [])


def fill_codebooks(network: DualEncoder) -> Lexicon | None:
    """Give lexical heads the words they start from: a word's vector is the mean of the rows of the tokens that write it.

    Args:
        network: before training; a checkpoint has its words already.

    Returns:
        The words, in the order of the embedding, or None where no head is lexical.

    Raises:
        ModelError: where model.dim is not the number of words.
    """
    words: Lexicon | None = None
    for head in network.heads().values():
        if isinstance(head, LexicalHead):
            codebook, words = _word_vectors(head.config.codebook)
            head.fill_codebook(codebook)
    return words


@functools.lru_cache(maxsize=1)
def _word_vectors(source: str) -> tuple[Tensor, Lexicon]:
    from frugalclip.backbones.sources import place_of

    model = FrozenLanguageModel.read(place_of(source))
    lexicon, rows = model.lexicon(), model.output_embedding()
    of_token = torch.as_tensor(lexicon.of_token)
    is_word = of_token >= 0
    sums = torch.zeros(len(lexicon), rows.shape[1]).index_add_(0, of_token[is_word], rows[is_word])
    return sums / torch.bincount(of_token[is_word], minlength=len(lexicon))[:, None], lexicon


def check_options(config: PretrainedConfig, *, side: Literal["image", "text"]) -> None:
    """Refuse `options` that the readers of a pretrained tower's backbones do not know, before any weights are read.

    Args:
        config: of the tower.
        side: of the tower.

    Raises:
        RecipeError: naming the setting and the known ones.
        ModelError: where options have no effect, or a source is not one of this side.
    """
    from frugalclip.backbones.sources import check_text_options, image_options

    for i, (source, options) in enumerate(config.backbones):
        where = f"model.{side}.options" + (f".{i}" if len(config.backbones) > 1 else "")
        if not is_backbone(source):
            _check_no_options(source, options, where=where)
        elif side == "image":
            image_options(source, options, where=where)
        else:
            check_text_options(source, options, tuned=not config.is_frozen, where=where)


def _check_no_options(source: str, options: Mapping[str, Any], *, where: str) -> None:
    if options:
        raise ModelError(
            f"{where} ({', '.join(options)}) have no effect on {source}, whose tower is read as it is; leave them out."
        )


def _tower(source: str, options: Mapping[str, Any], *, side: Literal["image", "text"]) -> Backbone:
    """A tower of a whole model, which is as it was trained."""
    _check_no_options(source, options, where=f"model.{side}.options")
    return TowerBackbone(load(source), side=side)


def _image_backbone(source: str, options: Mapping[str, Any], *, size: int | None = None) -> Backbone:
    from frugalclip.backbones.sources import image_backbone

    return (
        image_backbone(source, options, size=size)
        if is_backbone(source)
        else _tower(source, options, side="image")
    )


def _text_backbone(
    wanted: Sequence[tuple[str, Mapping[str, Any]]], device: str | torch.device, *, tuned: bool = False
) -> Backbone:
    from frugalclip.backbones.sources import SideBySide, text_backbone

    backbones = [
        text_backbone(source, options, tuned=tuned, device=device)
        if is_backbone(source)
        else _tower(source, options, side="text")
        for source, options in wanted
    ]
    return (
        backbones[0]
        if len(backbones) == 1
        else SideBySide(backbones, [_tokenizer(source, options) for source, options in wanted])
    )


def backbone_tokenizer(config: PretrainedConfig) -> Tokenizer:
    """The tokenizer in front of the backbone of a text tower; several backbones read texts as they are, each with its own."""
    return (
        _tokenizer(*config.backbones[0], tuned=not config.is_frozen)
        if len(config.backbones) == 1
        else Verbatim()
    )


def _tokenizer(source: str, options: Mapping[str, Any], *, tuned: bool = False) -> Tokenizer:
    from frugalclip.backbones.sources import text_tokenizer

    return text_tokenizer(source, options, tuned=tuned) if is_backbone(source) else load(source).tokenizer


def is_backbone(source: str) -> bool:
    """Whether a source is an encoder alone; otherwise it is a model with two towers, which `load` reads."""
    if source.startswith("hf:"):
        config = Path(source.removeprefix("hf:")) / "config.json"
        return not (config.is_file() and "vision_config" in read_json(config))
    return source.startswith(("package:", "timm:")) or source.endswith(".gguf")


class TowerBackbone(Backbone):
    """A tower of a model that `load` reads, without its projection."""

    def __init__(self, model: "Model", *, side: Literal["image", "text"]) -> None:
        super().__init__()
        self.tower: nn.Module = model.network.image if side == "image" else model.network.text
        config = model.network.config
        self.width = config.image.width if side == "image" else config.text.width or config.dim
        self.fingerprint, self.preprocess = model.fingerprint, model.preprocess

    def forward(self, inputs: Any, *, with_tokens: bool = False) -> BackboneOutput:
        """Read what the tower reads."""
        encoded = self.tower(inputs, with_tokens=with_tokens)
        return BackboneOutput(encoded.pooled, encoded.tokens)


def image_model(source: str, *, device: str | torch.device = "cpu") -> Model:
    """An encoder of pictures alone as a model: its embedding is the backbone's vector, and it has no text tower.

    Args:
        source: `timm:NAME@FILE`, `hf:DIR` of an image encoder, or `package:efficientnet-lite0`.
        device: where it computes.

    Raises:
        ModelError: for a source that is none of these, or cannot be read.
    """
    backbone = _image_backbone(source, {})
    image = {
        "kind": "pretrained",
        "from": source,
        "width": backbone.width,
        "resolution": backbone.preprocess.size,
        "head": {"kind": "identity"},
    }
    config = ModelConfig.model_validate({"image": image, "text": {"kind": "none"}, "dim": backbone.width})
    tokenizer = Verbatim()
    network = DualEncoder(config, vocabulary=tokenizer.vocabulary, context=tokenizer.context, seed=None)
    network.pretrained_towers()["image"].attach(lambda: backbone)
    return Model(network.eval(), tokenizer, backbone.preprocess, device=device)


class TextOnlyModel:
    """An encoder of texts by itself, such as a sentence encoder that teaches: what `embedding` asks of a model.

    Args:
        source: `package:NAME`, `hf:DIR` of an encoder, or a GGUF file.
        device: where it computes.

    Raises:
        ModelError: for a source that is none of these.
    """

    reads: Literal["texts"] = "texts"
    preprocess: Any = None
    scale: float | None = None

    def __init__(self, source: str, *, device: str | torch.device = "cpu") -> None:
        self.source, self.device = source, torch.device(device)
        self.backbone = _text_backbone([(source, {})], device).to(self.device).eval()
        self.tokenizer = _tokenizer(source, {})

    @property
    def fingerprint(self) -> str:
        """Of the weights and of everything else that changes what it says."""
        return self.backbone.fingerprint

    @property
    def description(self) -> Mapping[str, Any]:
        """Where the backbone comes from."""
        return {"backbone": self.source}

    def encode_image(self, images: Tensor, *, normalize: bool = True) -> Tensor:
        """Refuse pictures (batch, 3, height, width)."""
        raise ModelError(f"{self.source} reads texts and no pictures.")

    @torch.inference_mode()
    def encode_text(self, texts: list[str], *, normalize: bool = True) -> Tensor:
        """Texts to (batch, width), or (batch, facets, width)."""
        vectors = self.backbone(self.tokenizer.encode(texts).to(self.device)).pooled.float()
        return (unit(vectors) if normalize else vectors).cpu()
