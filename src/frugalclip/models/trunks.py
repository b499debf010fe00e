"""Where borrowed towers get their trunks from, and lexical heads their words."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from frugalclip.core.errors import MissingExtra, ModelError
from frugalclip.core.records import read_json
from frugalclip.core.types import Tokens
from frugalclip.data.tokens import Tokenizer
from frugalclip.functional import unit
from frugalclip.interop.tokenizers import Verbatim
from frugalclip.language_model import FrozenLanguageModel, Lexicon
from frugalclip.models.model import Model, load
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.towers.lexical import LexicalHead
from frugalclip.towers.pretrained import (
    BorrowedConfig,
    BorrowedImageConfig,
    BorrowedTextConfig,
    LexicalConfig,
    Said,
    Trunk,
)


def lend_trunks(network: DualEncoder, *, device: str | torch.device = "cpu") -> DualEncoder:
    """Tell the borrowed towers of a network where to get their trunks; those that are tuned are fetched at once.

    Args:
        network: with any towers.
        device: where a language model computes.

    Returns:
        The network.
    """
    for side, tower in network.borrowed().items():
        c = tower.config
        image = functools.partial(_image_trunk, *c.trunks[0], size=getattr(c, "resolution", None))
        tower.lend(
            image
            if side == "image"
            else functools.partial(_text_trunk, c.trunks, device, tuned=not c.is_frozen)
        )
    return network


def lend_shapes(network: DualEncoder) -> dict[str, str]:
    """Give the borrowed towers of a network on the meta device trunks without weights, so that parameters are counted and patterns checked.

    Args:
        network: with any towers; those whose trunk cannot be told without its weights stay without.

    Returns:
        For each side whose trunk is not known, why.

    Raises:
        RecipeError: for a wrong `width`, or a pattern of `tune` or `lora` that matches nothing.
    """
    reasons = {}
    for side, tower in network.borrowed().items():
        try:
            tower.lend(functools.partial(_shape, tower.config, side))
            _ = tower.lent  # a frozen one is fetched when it is first read
        except (MissingExtra, ModelError) as error:
            reasons[side] = str(error)
    return reasons


def _shape(config: BorrowedConfig, side: str) -> Trunk:
    """A trunk on the meta device; of a whole model that is here, its tower as it is."""
    from frugalclip.backbones.shapes import image_shape, text_shape
    from frugalclip.backbones.sources import SideBySide

    def of(source: str, options: Mapping[str, Any]) -> Trunk:
        if not is_trunk(source):
            return _tower(source, options, side="image" if side == "image" else "text").to("meta")
        if isinstance(config, BorrowedImageConfig):
            return image_shape(source, options, size=config.resolution)
        return text_shape(source, options, tuned=not config.is_frozen)

    shapes = [of(source, options) for source, options in config.trunks]
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
    heads = {
        side: tower
        for side, tower in network.borrowed().items()
        if isinstance(tower.config.head, LexicalConfig)
    }
    words: Lexicon | None = None
    for tower in heads.values():
        assert isinstance(tower.config.head, LexicalConfig) and isinstance(tower.head, LexicalHead)
        codebook, words = _word_vectors(tower.config.head.codebook)
        if tuple(codebook.shape) != tuple(tower.head.codebook.shape):
            found, wide = codebook.shape
            raise ModelError(
                f"{tower.config.head.codebook} has {found} words of {wide} numbers; set model.dim={found} and head.inside={wide}."
            )
        tower.head.codebook.data.copy_(codebook)
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


def check_options(config: BorrowedConfig, *, side: Literal["image", "text"]) -> None:
    """Refuse `options` that the readers of a borrowed tower's trunks do not know, before any weights are read.

    Args:
        config: of the tower.
        side: of the tower.

    Raises:
        RecipeError: naming the setting and the known ones.
        ModelError: where options have no effect, or a source is not one of this side.
    """
    from frugalclip.backbones.sources import check_text_options, image_options

    for i, (source, options) in enumerate(config.trunks):
        where = f"model.{side}.options" + (f".{i}" if len(config.trunks) > 1 else "")
        if not is_trunk(source):
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


def _tower(source: str, options: Mapping[str, Any], *, side: Literal["image", "text"]) -> Trunk:
    """A tower of a whole model, which is as it was trained."""
    _check_no_options(source, options, where=f"model.{side}.options")
    return OwnTrunk(load(source), side=side)


def _image_trunk(source: str, options: Mapping[str, Any], *, size: int | None = None) -> Trunk:
    from frugalclip.backbones.sources import image_trunk

    return (
        image_trunk(source, options, size=size) if is_trunk(source) else _tower(source, options, side="image")
    )


def _text_trunk(
    wanted: Sequence[tuple[str, Mapping[str, Any]]], device: str | torch.device, *, tuned: bool = False
) -> Trunk:
    from frugalclip.backbones.sources import SideBySide, text_trunk

    trunks = [
        text_trunk(source, options, tuned=tuned, device=device)
        if is_trunk(source)
        else _tower(source, options, side="text")
        for source, options in wanted
    ]
    return (
        trunks[0]
        if len(trunks) == 1
        else SideBySide(trunks, [_tokenizer(source, options) for source, options in wanted])
    )


def trunk_tokenizer(config: BorrowedTextConfig) -> Tokenizer:
    """The tokenizer in front of the trunk of a text tower; several trunks read texts as they are, each with its own."""
    return (
        _tokenizer(*config.trunks[0], tuned=not config.is_frozen) if len(config.trunks) == 1 else Verbatim()
    )


def _tokenizer(source: str, options: Mapping[str, Any], *, tuned: bool = False) -> Tokenizer:
    from frugalclip.backbones.sources import text_tokenizer

    return text_tokenizer(source, options, tuned=tuned) if is_trunk(source) else load(source).tokenizer


def is_trunk(source: str) -> bool:
    """Whether a source is an encoder alone; otherwise it is a model with two towers, which `load` reads."""
    if source.startswith("hf:"):
        config = Path(source.removeprefix("hf:")) / "config.json"
        return not (config.is_file() and "vision_config" in read_json(config))
    return source.startswith(("package:", "timm:")) or source.endswith(".gguf")


class OwnTrunk(Trunk):
    """A tower of a model that `load` reads, without its projection."""

    def __init__(self, model: "Model", *, side: Literal["image", "text"]) -> None:
        super().__init__()
        self.tower: nn.Module = model.network.image if side == "image" else model.network.text
        config = model.network.config
        self.width = config.image.width if side == "image" else config.text.width or config.dim
        self.fingerprint, self.preprocess = model.fingerprint, model.preprocess

    def forward(self, inputs: Any, *, with_tokens: bool = False) -> Said:
        """Read what the tower reads."""
        encoded = self.tower(inputs, with_tokens=with_tokens)
        return Said(encoded.pooled, encoded.tokens)


def image_model(source: str, *, device: str | torch.device = "cpu") -> Model:
    """An encoder of pictures alone as a model: its embedding is the trunk's vector, and it has no text tower.

    Args:
        source: `timm:NAME@FILE`, `hf:DIR` of an image encoder, or `package:efficientnet-lite0`.
        device: where it computes.

    Raises:
        ModelError: for a source that is none of these, or cannot be read.
    """
    trunk = _image_trunk(source, {})
    image = {
        "kind": "borrowed",
        "from": source,
        "width": trunk.width,
        "resolution": trunk.preprocess.size,
        "head": {"kind": "same"},
    }
    config = ModelConfig.model_validate({"image": image, "text": {"kind": "none"}, "dim": trunk.width})
    tokenizer = Verbatim()
    network = DualEncoder(config, vocabulary=tokenizer.vocabulary, context=tokenizer.context, seed=None)
    network.borrowed()["image"].lend(lambda: trunk)
    return Model(network.eval(), tokenizer, trunk.preprocess, device=device)


class LoneTrunk:
    """An encoder of texts by itself, such as a sentence encoder that teaches: what `embedding` asks of a model.

    Args:
        source: `package:NAME`, `hf:DIR` of an encoder, or a GGUF file.
        device: where it computes.

    Raises:
        ModelError: for a source that is none of these.
    """

    reads: Literal["texts"] = "texts"
    preprocess: Any = None

    def __init__(self, source: str, *, device: str | torch.device = "cpu") -> None:
        self.source, self.device = source, torch.device(device)
        self.trunk = _text_trunk([(source, {})], device).to(self.device).eval()
        self.tokenizer = _tokenizer(source, {})

    @property
    def fingerprint(self) -> str:
        """Of the weights and of everything else that changes what it says."""
        return self.trunk.fingerprint

    @property
    def description(self) -> Mapping[str, Any]:
        """Where the trunk comes from."""
        return {"trunk": self.source}

    def encode_image(self, images: Tensor, *, normalize: bool = True) -> Tensor:
        """Refuse pictures (batch, 3, height, width)."""
        raise ModelError(f"{self.source} reads texts and no pictures.")

    @torch.inference_mode()
    def encode_text(self, texts: list[str], *, normalize: bool = True) -> Tensor:
        """Texts to (batch, width), or (batch, facets, width)."""
        inputs = self.tokenizer.encode(texts)
        if isinstance(inputs, Tokens):
            inputs = Tokens(inputs.ids.to(self.device), inputs.lengths.to(self.device))
        vectors = self.trunk(inputs).pooled.float()
        return (unit(vectors) if normalize else vectors).cpu()
