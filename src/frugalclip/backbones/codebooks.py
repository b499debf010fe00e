"""Words that lexical heads start from: the output embedding of a language model."""

import functools

import torch
from torch import Tensor

from frugalclip.backbones.packages import path_of
from frugalclip.interop.hub import find_source
from frugalclip.language_model import FrozenLanguageModel, Lexicon
from frugalclip.towers.dual import DualEncoder
from frugalclip.towers.heads.lexical import LexicalHead


def fill_codebooks(network: DualEncoder) -> Lexicon | None:
    """Give lexical heads their words: a word's vector is the mean of the rows of the tokens that spell it.

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
    """(words, width) vectors, and the words."""
    model = FrozenLanguageModel.read(path_of(find_source(source)))
    lexicon, rows = model.lexicon(), model.output_embedding()
    of_token = torch.as_tensor(lexicon.of_token)
    is_word = of_token >= 0
    sums = torch.zeros(len(lexicon), rows.shape[1]).index_add_(0, of_token[is_word], rows[is_word])
    return sums / torch.bincount(of_token[is_word], minlength=len(lexicon))[:, None], lexicon
