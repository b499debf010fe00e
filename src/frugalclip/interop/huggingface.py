"""Folders of Hugging Face's `CLIPModel` and `SiglipModel`: `hf:DIR`, read without transformers.

Source: transformers `modeling_clip.py`, `modeling_siglip.py` and their configurations, whose defaults stand
in for what a `config.json` leaves out. The folder holds `config.json`, the weights (one safetensors file,
shards with an index, or a pickle of tensors), `tokenizer.json` and `preprocessor_config.json`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from frugalclip.core.errors import ModelError
from frugalclip.core.preprocess import CLIP_MEAN, CLIP_STD, Preprocess
from frugalclip.core.records import read_json, write_atomically, write_json
from frugalclip.data.tokens import Tokenizer
from frugalclip.interop.foreign import ForeignFormat, ForeignModel, scale_settings, understood
from frugalclip.interop.huggingface_settings import (
    CLASSES,
    KINDS_BY_TYPE,
    HuggingFaceKind,
    image_config,
    text_config,
    written_config,
)
from frugalclip.interop.preprocessing import IMAGE_ENCODERS, read_preprocess, write_preprocess
from frugalclip.interop.source import ModelSource
from frugalclip.interop.state_dicts import Weights
from frugalclip.interop.tensor_maps import (
    HUGGING_FACE,
    ExtraRows,
    Kernel,
    LeadingAxes,
    Scalar,
    SplitRows,
    TensorMap,
    TensorTable,
    UnusedTensor,
    layers,
    linear,
    pair,
)
from frugalclip.interop.tokenizer_files import MENDING, SPECIAL, cleaning_of, written_tokenizer
from frugalclip.interop.tokenizers import PublishedTokenizer, published_tokenizer
from frugalclip.interop.weights import read_shards, read_weights
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.towers.text import TextConfig
from frugalclip.towers.vit import VitConfig

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_END = 49407  # eos_token_id of a text tower whose configuration has none
_LEGACY_END = 2  # eos_token_id in configurations from before transformers read it
_TOP = {  # what names of tensors begin with
    *("vision_model", "text_model", "visual_projection", "text_projection", "logit_scale", "logit_bias"),
}
_TEXT = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "layer_norm_eps": 1e-5,
}
_TEXT |= {"hidden_act": "quick_gelu", "vocab_size": 49408, "max_position_embeddings": 77}
_IMAGE = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "layer_norm_eps": 1e-5,
}
_IMAGE |= {"hidden_act": "quick_gelu", "image_size": 224, "patch_size": 32, "num_channels": 3}
_SIGLIP = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "layer_norm_eps": 1e-6,
    "hidden_act": "gelu_pytorch_tanh",
}
DEFAULTS: dict[HuggingFaceKind, dict[str, dict[str, Any]]] = {  # of transformers, by type of model
    "clip": {"text": _TEXT, "vision": _IMAGE},
    "siglip": {
        "text": _TEXT | _SIGLIP | {"vocab_size": 32000, "max_position_embeddings": 64},
        "vision": _IMAGE | _SIGLIP | {"patch_size": 16, "vision_use_head": True},
    },
}
PROCESSORS: dict[HuggingFaceKind, dict[str, Any]] = {  # likewise
    "clip": {"do_center_crop": True, "resample": 3, "image_mean": CLIP_MEAN, "image_std": CLIP_STD},
    "siglip": {"do_center_crop": False, "resample": 3, "image_mean": 0.5, "image_std": 0.5},
}


def read_huggingface(source: ModelSource) -> ForeignModel:
    """A model of Hugging Face as ours.

    Args:
        source: `hf:DIR`.

    Raises:
        ModelError: for a folder, architecture or file that cannot be read, with what to do.
    """
    folder = source.folder
    config = _config(folder)
    kind = KINDS_BY_TYPE.get(str(config.get("model_type")))
    if kind is None:
        raise ModelError(
            f"{folder}/config.json is a model of type '{config.get('model_type')}', expected clip or siglip, "
            f"or an image encoder ({', '.join(IMAGE_ENCODERS)}); text encoders are for 'frugalclip embed' "
            "and model.text.from."
        )
    where = f"{folder} read as {kind}"
    tensors, notes = _weights(source)
    with understood(where):
        text, vision = (_tower(config, kind, part) for part in ("text", "vision"))
        context, rows = int(text["max_position_embeddings"]), int(text["vocab_size"])
        tokenizer = published_tokenizer(
            folder, context=context, rows=rows, cleaning=None, pad=text.get("pad_token_id")
        )
        if kind == "clip":
            _check_end(text, tokenizer, folder)
        network, table, unused = _network(config, kind, (text, vision), tensors, tokenizer, where=where)
        preprocess = _preprocess(folder, kind, size=network.config.image.resolution)
    return ForeignModel(
        network=network.eval(),
        tokenizer=tokenizer,
        preprocess=preprocess,
        source=source.text,
        architecture=str((config.get("architectures") or [kind])[0]),
        table=table,
        unused=unused,
        notes=notes,
    )


def _config(folder: Path) -> Mapping[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        hint = ""
        if (folder / "open_clip_config.json").is_file():
            own = f"open_clip:{folder}/open_clip_config.json@{folder}/FILE"
            hint = f" It holds a model of open_clip; write {own}."
        found = "is not a folder" if folder.exists() else "is not there"
        what = "has no config.json" if folder.is_dir() else found
        raise ModelError(f"{folder} {what}; expected a model saved with save_pretrained.{hint}")
    content = read_json(file)
    if not isinstance(content, Mapping):
        raise ModelError(f"{file} holds no settings; copy it again.")
    return content


def _tower(config: Mapping[str, Any], kind: HuggingFaceKind, part: str) -> dict[str, Any]:
    """Settings of one tower with transformers' defaults; `text_config_dict` of old files overrides them."""
    given = {**(config.get(f"{part}_config") or {}), **(config.get(f"{part}_config_dict") or {})}
    return DEFAULTS[kind][part] | {name: value for name, value in given.items() if value is not None}


def _weights(source: ModelSource) -> Weights:
    for name in WEIGHTS:
        if (file := source.folder / name).is_file():
            read = read_shards if name.endswith(".json") else read_weights
            return read(file, _belongs, source.selection)
    raise ModelError(f"{source.folder} has no weights; expected one of {', '.join(WEIGHTS)}.")


def _belongs(name: str) -> bool:
    return name.partition(".")[0] in _TOP


def _check_end(text: Mapping[str, Any], tokenizer: PublishedTokenizer, folder: Path) -> None:
    """Refuse a tokenizer that ends texts with another token than the one at which the model pools them."""
    end, pooled = tokenizer.rules.suffix[-1], text.get("eos_token_id", _END)
    if pooled == _LEGACY_END:  # stands for the largest id of a text
        pooled = max({*tokenizer.backend.get_vocab().values()} - {tokenizer.mask})
    if end != pooled:
        raise ModelError(
            f"{folder}/tokenizer.json ends texts with the id {end:,}, and the model pools them at the id "
            f"{pooled:,} (eos_token_id of text_config); put the model's own tokenizer there, or correct "
            "config.json."
        )


def _network(
    config: Mapping[str, Any],
    kind: HuggingFaceKind,
    settings: tuple[Mapping[str, Any], Mapping[str, Any]],
    tensors: dict[str, Tensor],
    tokenizer: Tokenizer,
    *,
    where: str,
) -> tuple[DualEncoder, TensorTable, dict[str, Tensor]]:
    """The network, its tensor table, and those tensors of the folder that it does without.

    Args:
        config: of the whole model.
        kind: clip or siglip.
        settings: of the text and of the vision tower, as transformers names them.
        tensors: of the folder, by name.
        tokenizer: of the folder.
        where: the folder and what it is read as, for messages.
    """
    text, vision = settings
    image = image_config(vision, kind, where=where)
    tower = text_config(text, kind, fill=tokenizer.settings.pad, where=where)
    own = config.get("projection_dim") or 512 if kind == "clip" else text.get("projection_size")
    dim = int(own or text["hidden_size"])
    if "logit_scale" not in tensors:
        raise ModelError(
            f"{where}: there is no tensor 'logit_scale'; save the whole model with save_pretrained."
        )
    scale = scale_settings(tensors["logit_scale"].float().reshape(()))
    rows, vocabulary = int(text["vocab_size"]), max(int(text["vocab_size"]), tokenizer.vocabulary)
    network = DualEncoder(
        ModelConfig(image=image, text=tower, dim=dim, **scale),
        vocabulary=vocabulary,
        context=int(text["max_position_embeddings"]),
        seed=None,
    )
    table = TABLES[kind](image, tower, ExtraRows(theirs=rows, ours=vocabulary))
    return network, table, table.fill(network, tensors, where=where)


def clip_table(image: VitConfig, text: TextConfig, tokens: ExtraRows) -> TensorTable:
    """Tensor maps of `CLIPModel`.

    Args:
        image: settings of our image tower.
        text: settings of our text tower.
        tokens: rows of both token embeddings.
    """
    embeddings = "vision_model.embeddings"
    return TensorTable(
        (
            pair("log_scale", "logit_scale", Scalar()),
            *_image_maps(image),
            pair("image.cls", f"{embeddings}.class_embedding", LeadingAxes(2)),
            *linear("image.norm_before", "vision_model.pre_layrnorm"),  # their spelling
            *linear("image.project", "visual_projection", bias=False),
            *_text_maps(text, tokens),
            *linear("text.project", "text_projection", bias=False),
        )
    )


def siglip_table(image: VitConfig, text: TextConfig, tokens: ExtraRows) -> TensorTable:
    """Tensor maps of `SiglipModel`; arguments as in `clip_table`."""
    head, width = "vision_model.head", image.width
    rows = SplitRows(theirs=(3 * width,), ours=(width, 2 * width))
    return TensorTable(
        (
            pair("log_scale", "logit_scale", Scalar((1,))),
            *_image_maps(image),
            pair("image.patch.bias", "vision_model.embeddings.patch_embedding.bias"),
            pair("image.pool.query", f"{head}.probe"),
            *(
                TensorMap(
                    (f"image.pool.q.{kind}", f"image.pool.kv.{kind}"),
                    (f"{head}.attention.in_proj_{kind}",),
                    rows,
                )
                for kind in ("weight", "bias")
            ),
            *linear("image.pool.out", f"{head}.attention.out_proj"),
            *linear("image.pool.norm", f"{head}.layernorm"),
            *linear("image.pool.feed_forward.enter", f"{head}.mlp.fc1"),
            *linear("image.pool.feed_forward.leave", f"{head}.mlp.fc2"),
            *_text_maps(text, tokens),
            *linear("text.project", "text_model.head"),
        ),
        (UnusedTensor("logit_bias"),),  # the loss adds it: the description keeps it
    )


TABLES: dict[HuggingFaceKind, Any] = {"clip": clip_table, "siglip": siglip_table}


def _image_maps(config: VitConfig) -> tuple[TensorMap, ...]:
    """Tensor maps that both kinds share."""
    embeddings = "vision_model.embeddings"
    return (
        pair("image.patch.weight", f"{embeddings}.patch_embedding.weight", Kernel(config.patch)),
        pair("image.positions", f"{embeddings}.position_embedding.weight", LeadingAxes(1)),
        *layers("image.layers", "vision_model.encoder.layers", config, HUGGING_FACE, present=None),
        *linear("image.norm_after", "vision_model.post_layernorm"),
    )


def _text_maps(config: TextConfig, tokens: ExtraRows) -> tuple[TensorMap, ...]:
    embeddings = "text_model.embeddings"
    return (
        pair("text.lookup.weight", f"{embeddings}.token_embedding.weight", tokens),
        pair("text.positions", f"{embeddings}.position_embedding.weight", LeadingAxes(1)),
        *layers("text.layers", "text_model.encoder.layers", config, HUGGING_FACE, present=None),
        *linear("text.norm_after", "text_model.final_layer_norm"),
    )


def _preprocess(folder: Path, kind: HuggingFaceKind, *, size: int) -> Preprocess:
    """The folder's preprocessing, with its processor's defaults; images must have the tower's size."""
    preprocess = read_preprocess(folder, defaults=PROCESSORS[kind] | {"size": size})
    if preprocess.size != size:
        raise ModelError(
            f"{folder} prepares images of {preprocess.size} by {preprocess.size} pixels, and its model "
            f"expects {size} by {size}."
        )
    return preprocess


def write_huggingface(
    network: DualEncoder,
    tokenizer: Tokenizer,
    preprocess: Preprocess,
    folder: Path,
    *,
    logit_bias: float | None = None,
) -> list[str]:
    """Write what `read_huggingface` reads: `config.json`, the weights, the tokenizer and the preprocessing.

    Args:
        network: two transformers of the form of `CLIPModel` or `SiglipModel`.
        tokenizer: of the model.
        preprocess: of the model.
        folder: to write into.
        logit_bias: of a model trained with the sigmoid loss.

    Returns:
        What the folder has no counterpart for, and leaves embeddings of most inputs as they are.

    Raises:
        ModelError: naming the setting that has no counterpart.
    """
    written = written_tokenizer(tokenizer)
    config = written_config(network, written.tokenizer)
    kind: HuggingFaceKind = config["model_type"]
    image, text = network.config.image, network.config.text
    rows = ExtraRows(theirs=network.vocabulary, ours=network.vocabulary)
    bias = {"logit_bias": torch.tensor([logit_bias or 0.0])} if kind == "siglip" else {}
    tensors = TABLES[kind](image, text, rows).export(network.state_dict(), unused=bias)
    write_atomically(folder / "model.safetensors", save(tensors, metadata={"format": "pt"}))
    write_json(folder / "config.json", config)
    written.write(folder)
    write_preprocess(preprocess, folder, processor=f"{CLASSES[kind].removesuffix('Model')}Processor")
    return [SPECIAL, *([MENDING] if cleaning_of(tokenizer) not in ("none", "siglip") else [])]


FOREIGN_FORMAT = ForeignFormat("hf", "hf:DIR", read_huggingface)
