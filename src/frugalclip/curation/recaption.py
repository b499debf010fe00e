"""What stages share that write captions: where a new caption goes, its source, and what is cut off.

Every new caption stands in a field of its own, `caption_SOURCE`, so that training can read it as a view of
its own or mix it in (`texts.NAME.fields`). `join` also puts it among the row's captions: behind each of them
(`concat`), in their place (`replace`), or beside them, where one is drawn in each epoch (`sample`).

Source: TL;DR (arXiv 2305.20087, `generate_train_json_w_caption.py`) concatenates with "; ".
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from frugalclip.curation.base import CurationStage, CurationStageConfig, StageRows, Verdict
from frugalclip.data.tokens import clip_tokenizer

Join = Literal["concat", "replace", "sample", "none"]


class RecaptionConfig(CurationStageConfig):
    """Settings of stages that write captions."""

    join: Join = Field(
        "concat", description="behind each caption, in place of them, beside them, or only into the field"
    )
    separator: str = Field("; ", description="between a caption and the new one, for join: concat")
    context: int = Field(
        77, ge=3, description="tokens that training reads; longer captions are counted, with CLIP's tokenizer"
    )


class RecaptionStage(CurationStage):
    """Base class of stages that write captions; they drop no row. Every subclass is final."""

    reasons: ClassVar = {}
    source: ClassVar[str]  # of the captions; `gives` is the field `caption_SOURCE`

    @abstractmethod
    def write(self, rows: StageRows) -> Sequence[str | None]:
        """A caption for each row, None where there is nothing to write.

        Args:
            rows: sorted by id.
        """

    def decide(self, rows: StageRows) -> Verdict:
        """Keep all rows, with their new captions."""
        verdict, config = Verdict(len(rows)), self.config
        written = [text or None for text in self.write(rows)]
        verdict.scores[self.gives[0]] = np.array(written, dtype=object)
        number = sum(text is not None for text in written)
        verdict.notes = [f"{number:,} of {len(rows):,} rows have a new caption, source {self.source}"]
        if config.join != "none":
            captions = rows.manifest.captions()
            joined = [
                old if new is None else joined_captions(old, new, config.join, separator=config.separator)
                for old, new in zip(captions, written, strict=True)
            ]
            verdict.captions = joined
            verdict.notes.append(_cut(joined, written, context=config.context))
        return verdict


def joined_captions(old: Sequence[str], new: str, join: Join, *, separator: str) -> list[str]:
    """The captions of a row after a new one was written.

    Args:
        old: its captions.
        new: the one that was written.
        join: `concat`, `replace` or `sample`.
        separator: of `concat`.
    """
    if join == "replace" or not old:
        return [new]
    return [*old, new] if join == "sample" else [f"{text}{separator}{new}" for text in old]


def _cut(captions: Sequence[Sequence[str]], written: Sequence[str | None], *, context: int) -> str:
    """How many of the captions of rows with a new one are longer than training reads."""
    texts = [text for row, new in zip(captions, written, strict=True) if new is not None for text in row]
    cut = clip_tokenizer().truncated(texts, context=context)
    share = cut / max(len(texts), 1)
    return (
        f"{cut:,} of {len(texts):,} captions ({share:.1%}) are longer than {context:,} tokens and lose their "
        "end"
    )
