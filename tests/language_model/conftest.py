"""A causal language model of 20,000 random weights in a folder, and a tokenizer trained on sentences."""

from pathlib import Path

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

SENTENCES = [
    "A dog runs on the beach and the Dog barks.",
    "Two cats sleep on a warm red sofa, dogs look on.",
    'Image description: "A small boat on a lake." '
    'Summed up, the single word for this image description is: "',
    "the category of the main object in this image, the overall atmosphere, Key words: beach, boat",
]


@pytest.fixture(scope="session")
def backend() -> tokenizers.Tokenizer:
    """Byte-level pairs with a start token, which it puts before every text, and an end token."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<start>", "<end>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(SENTENCES, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<start> $A", special_tokens=[("<start>", 0)]
    )
    return backend


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, backend: tokenizers.Tokenizer) -> Path:
    """What `save_pretrained` writes, with an output head of its own."""
    return save_llama(tmp_path_factory.mktemp("model"), backend, tied=False)


@pytest.fixture(scope="session")
def tied_folder(tmp_path_factory: pytest.TempPathFactory, backend: tokenizers.Tokenizer) -> Path:
    """The same with the input embedding as output head."""
    return save_llama(tmp_path_factory.mktemp("tied"), backend, tied=True)


def save_llama(folder: Path, backend: tokenizers.Tokenizer, *, tied: bool) -> Path:
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=backend.get_vocab_size() + 3,  # rows that no token has, as in published models
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        initializer_range=0.2,  # large enough for attention to make a difference
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    backend.save(str(folder / "tokenizer.json"))
    return folder
