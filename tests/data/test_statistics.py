"""Statistics of captions in tokens; others are tested in `tests/verbs/test_data_stats.py`."""

from frugalclip.data.statistics import token_statistics
from frugalclip.data.tokens import clip_tokenizer


def test_tokens_are_those_of_clip_with_start_and_end():
    texts = ["a dog", "a " * 30, "a " * 31, "a " * 75, "a " * 76, ""]
    found = token_statistics(texts)
    assert found is not None
    assert (found.tokens.least, found.tokens.most) == (2, 78)
    tokenizer = clip_tokenizer()
    for context, share in found.truncated.items():
        assert share == tokenizer.truncated(texts, context=context) / 6
    assert found.truncated == {32: 0.5, 77: 1 / 6}
    assert token_statistics([]) is None
