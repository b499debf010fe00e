"""Small random backbones: a network of timm; text and image encoders and a language model of transformers."""

from pathlib import Path
from typing import Any

import timm
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from frugalclip.backbones.base import BackboneKind, Side, Use
from frugalclip.backbones.find import find_backbone
from frugalclip.data.tokens import Tokenizer
from frugalclip.interop.source import ModelSource
from frugalclip.models import load
from frugalclip.towers.pretrained import Backbone

WORDS = ["red", "green", "blue", "grey", "white", "black", "beside", "a", "the", "square", "above", "below"]
TIMM_WIDTH, BERT_WIDTH, LLAMA_WIDTH, VISION_WIDTH = 96, 24, 32, 48
VISION = {  # type of model: its class in transformers
    "vit": "ViTModel",
    "deit": "DeiTModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
}


def timm_source(
    folder: Path, *, name: str = "test_resnet", seed: int = 0, dtype: torch.dtype = torch.float32
) -> str:
    """`timm:NAME@FILE` with random weights, whose statistics of normalisation are random too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = timm.create_model(name, pretrained=False, num_classes=3).state_dict()
        weights = {
            k: v + 0.1 * torch.rand_like(v) if v.is_floating_point() and v.ndim == 1 else v
            for k, v in weights.items()
        }
    file = folder / f"{name}-{seed}-{str(dtype).removeprefix('torch.')}.safetensors"
    save_file(
        {
            key: value.to(dtype).contiguous() if value.is_floating_point() else value
            for key, value in weights.items()
        },
        file,
    )
    return f"timm:{name}@{file}"


def bert_source(folder: Path, *, seed: int = 0, places: int = 20, dropout: float = 0.1) -> str:
    """`hf:DIR` with a random encoder of two layers."""
    folder.mkdir(parents=True, exist_ok=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = Backend(
        models.WordLevel({word: i for i, word in enumerate(special + WORDS)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(special)
    backend.save(str(folder / "tokenizer.json"))
    sizes = {
        "hidden_size": BERT_WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(special) + len(WORDS),
            max_position_embeddings=places,
            initializer_range=0.3,
            **sizes,
            **dropouts,
        )
        model = BertModel(config)
    model.eval().save_pretrained(folder)
    return f"hf:{folder}"


def vision_model(kind: str, *, name: str | None = None, seed: int = 0, **settings: Any) -> Any:
    """A random image encoder for 32 x 32 pixels in patches of 8; `name` is another class of the same type."""
    sizes = {
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    own = getattr(transformers, name or VISION[kind])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = own(own.config_class(**sizes | {"image_size": 32, "patch_size": 8} | settings))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def vision_source(folder: Path, *, kind: str = "dinov2", processor: Any = None, **options: Any) -> str:
    """`hf:DIR` with such an encoder and a processor, by default to 32 x 32 with mean and deviation 0.5."""
    vision_model(kind, **options).save_pretrained(folder)
    squashed = transformers.ViTImageProcessorPil(size={"height": 32, "width": 32})
    (processor or squashed).save_pretrained(folder)
    return f"hf:{folder}"


def llama_source(folder: Path, *, seed: int = 0, kind: str = "llama", places: int = 128) -> str:
    """`hf:DIR` with a random causal language model of three layers, whose tokenizer has a start token."""
    folder.mkdir(parents=True, exist_ok=True)
    special, prompt = (
        ["<s>", "[UNK]"],
        ["Image", "description", ":", "word", "this", "is", '"', ".", "image", "single"],
    )
    backend = Backend(
        models.WordLevel({word: i for i, word in enumerate(special + WORDS + prompt)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(special)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    backend.save(str(folder / "tokenizer.json"))
    common = {
        "vocab_size": len(special) + len(WORDS) + len(prompt),
        "max_position_embeddings": places,
        "initializer_range": 0.3,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "gpt2":
            model = GPT2LMHeadModel(GPT2Config(n_embd=LLAMA_WIDTH, n_layer=3, n_head=4, **common))
        else:
            sizes = {
                "hidden_size": LLAMA_WIDTH,
                "intermediate_size": 48,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
            }
            model = LlamaForCausalLM(LlamaConfig(**sizes, **common))
    model.eval().save_pretrained(folder)
    return f"hf:{folder}"


def _found(source: str, options: dict[str, Any] | None, side: Side, **use: Any) -> BackboneKind[Any]:
    return find_backbone(ModelSource.parse(source, options), Use(side, load, **use))


def image_backbone(
    source: str, options: dict[str, Any] | None = None, *, size: int | None = None
) -> Backbone:
    """The backbone of an image tower."""
    return _found(source, options, "image", size=size).load()


def image_shape(source: str, *, size: int) -> Backbone:
    """The backbone of an image tower on the meta device."""
    return _found(source, None, "image", size=size).on_meta()


def text_backbone(source: str, options: dict[str, Any] | None = None, *, tuned: bool = False) -> Backbone:
    """The backbone of a text tower."""
    return _found(source, options, "text", is_tuned=tuned).load()


def text_tokenizer(source: str, options: dict[str, Any] | None = None, *, tuned: bool = False) -> Tokenizer:
    """The tokenizer in front of the backbone of a text tower."""
    return _found(source, options, "text", is_tuned=tuned).tokenizer()
