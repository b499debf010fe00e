"""Which columns of a table are captions, and why none is."""

import re
from collections.abc import Sequence

import pyarrow as pa

from frugalclip.core.errors import DataError
from frugalclip.sources.caption_values import is_structured
from frugalclip.sources.column_names import (
    ANSWER_NAMES,
    CAPTION_NAMES,
    ID_NAMES,
    QUESTION_NAMES,
    plain_name,
)
from frugalclip.sources.column_values import (
    holds_conversations,
    is_captions,
    is_class_numbers,
    is_structured_column,
    is_url,
    mean_length,
    share_of,
)

_NUMBERED = re.compile(r"(caption|text|title|sentence|description|alt|alttext|comment|prompt)s?(\d+)")


def caption_columns(
    table: pa.Table, image: str, has_languages: bool, labels: Sequence[str], where: str
) -> tuple[str, ...]:
    """The columns of captions of a table: by name, then by content.

    Args:
        table: the rows, or their beginning.
        image: the column of images.
        has_languages: whether captions by language are there besides.
        labels: columns known to be names of classes.
        where: the file, for messages.

    Raises:
        DataError: when no column looks right, or there are questions and no captions.
    """
    candidates = [
        name
        for name in table.column_names
        if name != image and is_captions(table.schema.field(name).type) and not is_class_numbers(table, name)
    ]
    numbered = [
        (found[1], int(found[2]), name)
        for name in candidates
        if (found := _NUMBERED.fullmatch(plain_name(name)))
    ]
    by_name = {plain_name(name): name for name in reversed(candidates)}
    conversations = [name for name in candidates if holds_conversations(table[name])]
    for name in CAPTION_NAMES:
        several = tuple(column for stem, _, column in sorted(numbered) if stem == name)
        plain = (by_name[name],) if name in by_name else ()
        if name == "name" and conversations:
            return (conversations[0],)
        if plain or several:
            return plain + several
        if name == "captions" and has_languages:
            return ()
        if (
            labels and name == "description"
        ):  # titles and the like are better than classes, other names are not
            return (labels[0],)
    if questions := [by_name[name] for name in QUESTION_NAMES if name in by_name]:
        raise DataError(_only_questions(table, questions[0], where))
    texts = [
        name
        for name in candidates
        if pa.types.is_string(table.schema.field(name).type) and plain_name(name) not in ID_NAMES
    ]
    wordy = {
        name: share_of(table[name], lambda text: " " in text and not is_url(text) and not is_structured(text))
        for name in texts
    }
    best = sorted((name for name in texts if wordy[name] > 0.5), key=lambda name: -mean_length(table[name]))
    if best:
        return (best[0],)
    raise DataError(_no_captions(table, image, where))


def _only_questions(table: pa.Table, question: str, where: str) -> str:
    """Why questions, with or without answers, are not trained on."""
    answers = [name for name in table.column_names if plain_name(name) in ANSWER_NAMES]
    beside = f" and answers in '{answers[0]}'" if answers else ""
    named = answers[0] if answers else "NAME"
    return (
        f"{where} has questions in '{question}'{beside} and no captions; neither describes an image: "
        f"name what to train on with data.columns.caption={named}, or write the two as one sentence into a "
        "column caption."
    )


def _no_captions(table: pa.Table, image: str, where: str) -> str:
    """Why no column is one of captions, and what to do."""
    names = [name for name in table.column_names if name != image]
    numbers = [name for name in names if is_class_numbers(table, name)]
    if numbers:
        return (
            f"{where} has class numbers in '{numbers[0]}' and no names; put classes.txt beside it, "
            "a name a line by number from 0, or name a caption column with data.columns.caption=NAME."
        )
    structured = [name for name in names if is_structured_column(table[name])]
    found = (
        f"{', '.join(structured)} {'holds' if len(structured) == 1 else 'hold'} structures and not text, "
        f"among {', '.join(table.column_names[:20])}"
        if structured
        else f"found: {', '.join(table.column_names[:20]) or 'none'}"
    )
    return (
        f"{where} has no column that looks like a caption ({found}; expected a name such as caption, "
        f"text, title or label); name it with data.columns.caption=NAME, several with commas between."
    )
