"""Whether the top words of lexical vectors fit their images, and whether the stored few suffice.

Source: what LexVLA (arXiv 2407.17827) claims of its words and evaluates by eye; the protocol is ours. A top
word is a hit if its lemma is that of a content word of the image's own captions or names. Chance is the same
count with the words of other images.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from frugalclip.core.errors import ModelError
from frugalclip.data.manifest import Manifest
from frugalclip.data.words import content_words, lemmatizer
from frugalclip.evaluation.classes import row_names
from frugalclip.evaluation.encoding import DataEncoder, encode_texts, image_features
from frugalclip.evaluation.metrics import in_unit
from frugalclip.evaluation.results import EvaluatedRows, with_provenance
from frugalclip.evaluation.retrieval import RetrievalTask, retrieval_task
from frugalclip.evaluation.statistics import Statistic, intervals, mean_of, on_the_sample
from frugalclip.language_model import Lexicon
from frugalclip.towers.heads.lexical import truncated

TOP = 10  # words of an image that are evaluated and shown
STORED = 64  # words of an image or text that an inverted index stores
EXCHANGES = 20  # of words between images, for chance
LISTED, SHOWN = 20, 8  # commonest words, and images drawn at random, in a result
LEXICAL = "train one with 'frugalclip train words' (fitted in seconds) or 'frugalclip train lexvla'"
TopWords = Sequence[Sequence[tuple[str, float]]]  # of each image, words with their weights, the largest first


class WordEncoder(DataEncoder, Protocol):
    """A model whose embeddings have a number for each word; `frugalclip.load` gives one."""

    lexicon: Lexicon | None

    def words(self, embeddings: Tensor, /, *, top: int = TOP) -> list[list[tuple[str, float]]]:
        """The largest words of (batch, dim) embeddings, none whose weight is zero."""
        ...


@dataclass(frozen=True)
class WordTask:
    """Everything about an evaluation of words that does not depend on the model."""

    retrieval: RetrievalTask  # of the same images, by their captions
    own: list[frozenset[str]]  # (images,) lemmas that belong to each image
    lemma: Callable[[str], str]
    about: dict[str, str]  # where own words come from and how they are compared

    def only(self, images: np.ndarray) -> "WordTask":
        """The same task with some of its images."""
        return replace(self, retrieval=self.retrieval.only(images), own=[self.own[i] for i in images])

    def hits(self, top: TopWords) -> list[list[bool]]:
        """Of each image, whether each of its top words belongs to it."""
        return _hits(self._lemmas(top), self.own)

    def chance(self, top: TopWords, *, seed: int = 0) -> dict[str, float]:
        """words_hit and words_precision in percent with exchanged top words; nothing for one image."""
        random, number = np.random.default_rng(seed), len(self.own)
        order, lemmas = random.permutation(number), self._lemmas(top)
        shifts = 1 + random.permutation(max(number - 1, 0))[:EXCHANGES]  # no image keeps its own
        found = [
            _shares(_hits([lemmas[i] for i in np.roll(order, shift)], [self.own[i] for i in order]))
            for shift in shifts
        ]
        return {
            name: 100 * float(np.mean([one[name] for one in found])) for name in (found[0] if found else ())
        }

    def result(
        self, images: Tensor, texts: Tensor, top: TopWords, *, draws: int = 1000, seed: int = 0
    ) -> dict[str, Any]:
        """Metrics with intervals and chance, the commonest words, and images drawn at random.

        Args:
            images: (images, vocab) lexical vectors, none negative, of the retrieval's `rows`.
            texts: (texts, vocab) lexical vectors of the retrieval's `texts`.
            top: the `TOP` largest words of each image.
            draws: bootstrap draws.
            seed: of the bootstrap, of chance and of the choice of images.
        """
        task, hits = self.retrieval, self.hits(top)
        used = Counter(word for words in top for word, _ in words)
        commonest = used.most_common(LISTED)
        holds = [any(word == commonest[0][0] for word, _ in words) for words in top]
        own: dict[str, Any] = {
            **_shares(hits),
            "most_used_word": holds,
            "non_zeros": (images > 0).sum(dim=1).numpy(),
        }
        statistics = {
            name: mean_of(np.asarray(values, np.float64), task.image_groups) for name, values in own.items()
        }
        few = _recall(task, *(truncated(x, top_k=STORED) for x in (images, texts)))
        statistics |= _recall(task, images, texts) | {
            f"{name}_{STORED}_words": one for name, one in few.items()
        }
        groups, guessed = task.group_count, task.chance()
        found = intervals(statistics, groups=groups, draws=draws, seed=seed)
        return {
            "metrics": {
                name: in_unit(name, on_the_sample(one, groups=groups)) for name, one in statistics.items()
            },
            "interval": {name: [in_unit(name, edge) for edge in edges] for name, edges in found.items()},
            "chance": self.chance(top, seed=seed)
            | {f"{name}{ending}": guessed[name] for ending in ("", f"_{STORED}_words") for name in few},
            "samples": len(self.own),
            **task.about,
            "texts": len(task.texts),
            "bootstrap": {"draws": draws, "seed": seed, "level": 95, "groups": groups},
            "words": {
                **self.about,
                "vocabulary": images.shape[1],
                "used": [
                    {"word": word, "images": round(100 * count / len(top), 4)} for word, count in commonest
                ],
            },
            "examples": {
                "words": [
                    self._example(i, top[i], hits[i])
                    for i in np.random.default_rng(seed).permutation(len(top))[:SHOWN]
                ]
            },
        }

    def _lemmas(self, top: TopWords) -> list[list[str]]:
        return [[self.lemma(word.casefold()) for word, _ in words] for words in top]

    def _example(
        self, image: int, words: Sequence[tuple[str, float]], hits: Sequence[bool]
    ) -> dict[str, Any]:
        listed = [
            {"word": word, "weight": round(weight, 6), "is_hit": is_hit}
            for (word, weight), is_hit in zip(words, hits, strict=True)
        ]
        return {"id": self.retrieval.ids[image], "row": int(self.retrieval.rows[image]), "words": listed}


def word_task(
    manifest: Manifest,
    *,
    label_field: str | None = None,
    language: str | None = None,
    group: str | None = None,
) -> WordTask:
    """Read which words belong to the images of a data set.

    Args:
        manifest: the rows to evaluate on; those without a caption take no part.
        label_field: field whose words belong to an image beside those of its captions; default `label`,
            where there is one.
        language: captions of this language, which is also that of the lemmas; default all captions, and
            English.
        group: field of the bootstrap, see `retrieval_task`.

    Raises:
        DataError: if the field is unknown or no row has a caption.
    """
    task = retrieval_task(manifest, language=language, group=group)
    captions, (names, source) = (
        manifest.captions(language=language),
        row_names(manifest, label_field=label_field, language=language),
    )
    lemma, compared = lemmatizer(language or "en")
    own = [content_words([*captions[row], *names[row]], lemma) for row in task.rows.tolist()]
    return WordTask(
        task,
        own,
        lemma,
        {"of": f"captions, and {source}" if source.startswith("field") else "captions", "compared": compared},
    )


def evaluate_words(
    model: WordEncoder,
    manifest: Manifest,
    everything: Manifest | None = None,
    *,
    where: str | None = None,
    label_field: str | None = None,
    language: str | None = None,
    group: str | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """How well the top words of images fit, and what few words lose.

    Args:
        model: with lexical heads.
        manifest: the rows to evaluate on.
        everything: the data set they were selected from; not needed here.
        where: the condition that selected them, to be stored.
        label_field: see `word_task`, as `language` and `group`.
        language: of captions and lemmas.
        group: field of the bootstrap.
        draws: bootstrap draws.
        seed: of everything drawn.

    Returns:
        The result described in `docs/formats.md`. In percent: `words_hit`, images with a hit among their
        ten top words; `words_precision`, top words that are hits, mean over images; `most_used_word`,
        images that hold the commonest top word; `i2t_r1` and `t2i_r1` with all words and, as `…_64_words`,
        with the 64 of either side that an index stores. `non_zeros` counts the words of an image above zero.

    Raises:
        ModelError: if the model has no lexical head.
        DataError: no row with a caption, or none whose image can be read.
    """
    if model.lexicon is None:
        raise ModelError(f"this model has no lexical head, so its images have no words; {LEXICAL}.")
    task = word_task(manifest, label_field=label_field, language=language, group=group)
    images, kept, faults = image_features(model, manifest, task.retrieval.rows)
    task = task.only(kept) if faults else task
    result = task.result(
        images,
        encode_texts(model, task.retrieval.texts),
        model.words(images, top=TOP),
        draws=draws,
        seed=seed,
    )
    result["left_out"] = {**task.retrieval.about["left_out"], **faults}
    return with_provenance("words", result, model, EvaluatedRows.of(manifest, where))


def _hits(lemmas: Sequence[Sequence[str]], own: Sequence[frozenset[str]]) -> list[list[bool]]:
    return [[lemma in belong for lemma in words] for words, belong in zip(lemmas, own, strict=True)]


def _shares(hits: Sequence[Sequence[bool]]) -> dict[str, np.ndarray]:
    """Of each image, whether any of its words is a hit, and the share of hits; 0 without words."""
    return {
        "words_hit": np.array([any(one) for one in hits]),
        "words_precision": np.array([sum(one) / max(len(one), 1) for one in hits]),
    }


def _recall(task: RetrievalTask, images: Tensor, texts: Tensor) -> dict[str, Statistic]:
    found = task.statistics(images, texts)
    return {name: found[name] for name in ("i2t_r1", "t2i_r1")}
