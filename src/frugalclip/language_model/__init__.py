"""Frozen causal language models that read captions: prompts, packed facets, next-word states, and the words of a vocabulary.

Importing this loads no transformers; reading a model does, and names the extra where it is missing.
"""

from frugalclip.language_model.frozen import FrozenLanguageModel, LanguageModelSettings
from frugalclip.language_model.lexicon import Lexicon
from frugalclip.language_model.packing import Packed, facet_positions, facet_visibility, pack
from frugalclip.language_model.prompts import (
    CLEANING_VERSION,
    Prompt,
    clean_caption,
    fill_template,
    find_prompt,
    prompt_names,
)

__all__ = [
    "CLEANING_VERSION",
    "FrozenLanguageModel",
    "LanguageModelSettings",
    "Lexicon",
    "Packed",
    "Prompt",
    "clean_caption",
    "facet_positions",
    "facet_visibility",
    "fill_template",
    "find_prompt",
    "pack",
    "prompt_names",
]
