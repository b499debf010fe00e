"""Frozen causal language models as text encoders: prompts, facets, next-word states, lexicons.

Importing this loads no transformers; reading a model does, and names the extra where it is missing.
"""

from frugalclip.language_model.frozen import FrozenLanguageModel, LanguageModelSettings
from frugalclip.language_model.lexicon import Lexicon
from frugalclip.language_model.packing import FacetRows, facet_positions, facet_visibility, pack
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
    "FacetRows",
    "FrozenLanguageModel",
    "LanguageModelSettings",
    "Lexicon",
    "Prompt",
    "clean_caption",
    "facet_positions",
    "facet_visibility",
    "fill_template",
    "find_prompt",
    "pack",
    "prompt_names",
]
