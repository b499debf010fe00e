"""Text views: which text of a sample each view shows, and its tokens.

The choice is a function of (seed, view, row, epoch) alone, like every random choice of the loader. Each
distinct text is tokenised once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor

from frugalclip.core.config import Settings
from frugalclip.core.errors import DataError, known_names
from frugalclip.core.random import uniform
from frugalclip.core.types import CachedFeatures, Tokens
from frugalclip.data.ledger import LedgerStage
from frugalclip.data.manifest import Manifest, value_code
from frugalclip.data.tokens import Tokenizer
from frugalclip.features.rows import FeatureRows, some_facets
from frugalclip.loading.augmentation import AugmentConfig, TextAugmentation

TEXTS = LedgerStage(
    "text", {"no-text": "no text view of the recipe finds a text in it"}, harmless=frozenset({"no-text"})
)
NO_TEXT = "no-text"
_KEPT_TEXTS = 2_000_000  # above this many distinct texts a step's texts are tokenised when they are drawn
# which draw of a row decides what; later choices go behind, so that they do not move these
_SOURCE, _PICK, _DRAWS = (0, 1, 2)


Share = Annotated[float, Field(ge=0, le=1)]


def _plain(field: str) -> str:
    """Name of a field, without the sign that the data may lack it."""
    return field.removesuffix("?")


class TextViewConfig(Settings):
    """What one text view reads: the keys of `texts.<name>` in a recipe."""

    pick: Literal["random", "first"] = Field(
        "random", description="which of a sample's captions: another one each epoch, or always the first"
    )
    language: str | None = Field(
        None, description="a language of captions_by_language; samples without one are left out"
    )
    fields: list[str] = Field(
        default_factory=list,
        description="fields that may stand in for a caption; keywords? where the data has it",
    )
    lists: Literal["joined", "each"] = Field(
        "joined", description="a field that holds a list is one text, or each of its items is one"
    )
    field_probability: Share | dict[str, Share] = Field(
        0.5,
        description="probability that a field is read, where the sample has any of them; or of each field, "
        "such as {caption_captioner: 0.3, caption_words: 0.1}, and the rest is that of the captions",
    )
    of: str | None = Field(
        None,
        description="another text view: the same text, changed by `augment`; other settings are not used",
    )
    augment: AugmentConfig | None = Field(None, description="changes the words of the text that is drawn")
    facets: int | None = Field(
        None,
        ge=1,
        description="how many of a text's facets to draw, other ones each time; null: all. FLAME: 6 of 11",
    )

    @model_validator(mode="after")
    def _probabilities_fit(self) -> Self:
        if not isinstance(self.field_probability, dict):
            return self
        named, known = sorted(self.field_probability), sorted(map(_plain, self.fields))
        if named != known:
            raise ValueError(
                f"field_probability names {', '.join(named) or 'no field'}, and fields "
                f"{', '.join(known) or 'none'}; give each field a probability, or one number for all"
            )
        if (total := sum(self.field_probability.values())) > 1:
            raise ValueError(f"field_probability adds up to {total:g}, expected at most 1")
        return self


@dataclass(frozen=True)
class _Choices:
    """Texts of every row, as positions in the pool."""

    texts: np.ndarray  # (texts of all rows,) int64
    offsets: np.ndarray  # (samples + 1,) int64

    def counts(self, rows: np.ndarray) -> np.ndarray:
        return self.offsets[rows + 1] - self.offsets[rows]


class TextPool:
    """Distinct texts, numbered as they come."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def choices(self, texts: Iterable[Iterable[str]]) -> _Choices:
        """Number the texts of every row; blank ones are left out."""
        numbers, lengths = [], [0]
        for row in texts:
            kept = [
                self._numbers.setdefault(text, len(self._numbers))
                for text in row
                if text and not text.isspace()
            ]
            numbers.extend(kept)
            lengths.append(len(kept))
        return _Choices(np.array(numbers, dtype=np.int64), np.cumsum(lengths, dtype=np.int64))

    def texts(self) -> list[str]:
        return list(self._numbers)


def check_sources(
    configs: Mapping[str, TextViewConfig], names: Iterable[str], *, error: type[Exception]
) -> None:
    """Refuse `of` that names no text view, or one that has no text of its own.

    Args:
        configs: all text views.
        names: those that are read.
        error: class of the exception to raise.
    """
    for name in sorted(names):
        config = configs[name]
        if config.of is not None and (config.of not in configs or configs[config.of].of is not None):
            known = known_names(
                config.of, [other for other in configs if other != name and configs[other].of is None]
            )
            raise error(
                f"texts.{name}.of names '{config.of}', expected a text view that draws its own text; {known}"
            )


class TextViews:
    """The text views of a data set.

    Args:
        manifest: the data set.
        configs: view -> what it reads.
        tokenizer: makes the ids.
        seed: of the run.
        stored: gives features of these texts, which take the place of ids.

    Raises:
        DataError: for an unknown field or language, or words changed of texts whose vectors are stored.
    """

    def __init__(
        self,
        manifest: Manifest,
        configs: Mapping[str, TextViewConfig],
        *,
        tokenizer: Tokenizer,
        seed: int,
        stored: Callable[[Sequence[str]], FeatureRows] | None = None,
    ) -> None:
        pool = TextPool()
        self.tokenizer, self.seed = tokenizer, seed
        check_sources(configs, configs, error=DataError)
        self._views = {
            name: _TextView(manifest, configs[config.of or name], pool, name=config.of or name, seed=seed)
            for name, config in configs.items()
        }
        self._augments = {
            name: TextAugmentation(config.augment)
            for name, config in configs.items()
            if config.augment is not None
        }
        self._configs, self._texts = dict(configs), pool.texts()
        for name in self._augments if stored else ():
            raise DataError(
                f"texts.{name}.augment changes words, and the texts' vectors come from a store; "
                "leave one of the two out."
            )
        self._stored = stored(self._texts) if stored else None
        self._table = (
            None if stored else tokenizer.table(self._texts) if len(self._texts) <= _KEPT_TEXTS else None
        )
        self._codes: np.ndarray | None = None
        self.has_text = np.ones(
            len(manifest), dtype=bool
        )  # (samples,) False where some view finds nothing to read
        for view in self._views.values():
            self.has_text &= view.counts > 0

    def draw(self, rows: np.ndarray, *, epoch: int | np.ndarray, stream: str = "") -> dict[str, np.ndarray]:
        """Choose the text of every view.

        Args:
            rows: (batch,) rows of the data set, each with a text in every view.
            epoch: passes over the data so far, one number or (batch,).
            stream: begins the names of the random streams.

        Returns:
            view -> (batch,) numbers of texts.
        """
        return {name: view.draw(rows, epoch, stream) for name, view in self._views.items()}

    def chances(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How often a view shows each text of each row, over many epochs.

        Args:
            name: of the view.

        Returns:
            (pairs,) rows of the data set, (pairs,) numbers of texts, (pairs,) float64 chances, which sum to 1
            over the texts of a row.
        """
        return self._views[name].chances()

    def changes_words(self, name: str) -> bool:
        """Whether a view shows texts with other words than the data has."""
        return name in self._augments

    @property
    def is_stored(self) -> bool:
        """Whether a store stands in for token ids."""
        return self._stored is not None

    def stored_features(self, texts: np.ndarray) -> Tensor:
        """(texts, width) or (texts, facets, width): stored features of numbered texts."""
        assert self._stored is not None, "only where a store stands in for token ids"
        return self._stored.vectors(texts)

    def view_tokens(
        self, name: str, drawn: np.ndarray, rows: np.ndarray, *, epoch: int | np.ndarray, stream: str = ""
    ) -> Tokens | CachedFeatures:
        """Ids of the texts drawn for one view, augmented where it has `augment`; or their stored features.

        Args:
            name: of the view.
            drawn: (batch,) numbers of texts.
            rows: (batch,) rows of the data set.
            epoch: passes over the data so far, one number or (batch,).
            stream: begins the names of the random streams.

        Returns:
            Ids (batch, length), padded to the longest; or (batch, width) or (batch, facets, width) float32.
        """
        if self._stored is not None:
            return CachedFeatures(self._vectors(name, drawn, rows, epoch=epoch, stream=stream))
        if name not in self._augments:
            return self.tokens(drawn)
        counters = np.stack([rows, np.full(len(rows), epoch)], axis=1)
        changed = self._augments[name](
            self.texts(drawn), counters, seed=self.seed, stream=f"{stream}augment/{name}"
        )
        return self.tokenizer.encode(changed)

    def _vectors(
        self, name: str, drawn: np.ndarray, rows: np.ndarray, *, epoch: int | np.ndarray, stream: str
    ) -> Tensor:
        assert self._stored is not None
        vectors, number = self._stored.vectors(drawn), self._configs[name].facets
        if number is None or vectors.ndim == 2:
            return vectors
        counters = np.stack([rows, np.full(len(rows), epoch)], axis=1)
        return some_facets(
            vectors, uniform(self.seed, f"{stream}facets/{name}", counters, vectors.shape[1]), number=number
        )

    def tokens(self, drawn: np.ndarray) -> Tokens:
        """Ids of drawn texts, padded to the longest: (batch, length)."""
        if self._table is None:
            return self.tokenizer.encode([self._texts[i] for i in drawn])
        return self._table.tokens(drawn, pad=self.tokenizer.pad)

    def numbers(self) -> dict[str, int]:
        """Text -> its number."""
        return {text: number for number, text in enumerate(self._texts)}

    def texts(self, drawn: np.ndarray) -> list[str]:
        """Drawn texts as they stand in the data."""
        return [self._texts[i] for i in drawn]

    def codes(self, drawn: np.ndarray) -> np.ndarray:
        """(batch,) int64, equal exactly for equal texts."""
        if self._codes is None:
            self._codes = np.array([value_code(text) for text in self._texts], dtype=np.int64)
        return self._codes[drawn]


class _TextView:
    """One text view: the captions and field texts each row may show."""

    def __init__(
        self, manifest: Manifest, config: TextViewConfig, pool: TextPool, *, name: str, seed: int
    ) -> None:
        self.config, self.name, self.seed = config, name, seed
        self.captions = pool.choices(manifest.captions(language=config.language))
        of_fields = config.field_probability
        groups = (
            {tuple(config.fields): of_fields}
            if not isinstance(of_fields, dict)
            else {(field,): of_fields[_plain(field)] for field in config.fields}
        )
        # fields that are drawn from together, and how probable that is
        self.sources = [
            (pool.choices(field_texts(manifest, fields, lists=config.lists)), probability)
            for fields, probability in groups.items()
        ]
        every = np.arange(len(manifest))
        self.counts = self.captions.counts(every)  # (samples,)
        for source, _ in self.sources:
            self.counts = self.counts + source.counts(every)

    def _probabilities(self, rows: np.ndarray) -> np.ndarray:
        """(sources, batch) with which each source is read, where a row has it; the rest is the captions'."""
        has = np.stack([source.counts(rows) > 0 for source, _ in self.sources])
        found = has * np.array([probability for _, probability in self.sources])[:, None]
        total = found.sum(axis=0)
        only = np.where(
            total > 0, found / np.where(total > 0, total, 1), has / np.maximum(has.sum(axis=0), 1)
        )
        return np.where(self.captions.counts(rows) == 0, only, found)

    def chances(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        every = np.arange(len(self.counts))
        captions, of_sources = self.captions.counts(every), self._probabilities(every)
        is_first = self.config.pick == "first"
        first = np.zeros(len(self.captions.texts)) if is_first else np.ones(len(self.captions.texts))
        first[self.captions.offsets[:-1][captions > 0]] = 1
        shown = 1 if is_first else np.maximum(captions, 1)
        rows, texts = [np.repeat(every, captions)], [self.captions.texts]
        chance = [np.repeat((1 - of_sources.sum(axis=0)) / shown, captions) * first]
        for (source, _), probability in zip(self.sources, of_sources, strict=True):
            counts = source.counts(every)
            rows.append(np.repeat(every, counts))
            texts.append(source.texts)
            chance.append(np.repeat(probability / np.maximum(counts, 1), counts))
        kept = np.concatenate(chance) > 0
        return np.concatenate(rows)[kept], np.concatenate(texts)[kept], np.concatenate(chance)[kept]

    def draw(self, rows: np.ndarray, epoch: int | np.ndarray, stream: str) -> np.ndarray:
        counters = np.stack([rows, np.full(len(rows), epoch)], axis=1)
        draws = uniform(self.seed, f"{stream}text/{self.name}", counters, _DRAWS)
        caption_pick = draws[:, _PICK] if self.config.pick == "random" else 0.0
        result = _picked(self.captions, rows, caption_pick * self.captions.counts(rows))
        bounds = np.cumsum(self._probabilities(rows), axis=0)
        bounds[:, self.captions.counts(rows) == 0] += 1e-9  # whatever is rounded, no caption is read there
        above = np.zeros(len(rows), dtype=bool)
        for (source, _), bound in zip(self.sources, bounds, strict=True):
            is_read = ~above & (draws[:, _SOURCE] < bound) & (source.counts(rows) > 0)
            result[is_read] = _picked(source, rows, draws[:, _PICK] * source.counts(rows))[is_read]
            above |= is_read
        return result


def _picked(choices: _Choices, rows: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(batch,) the text at `place` of each row; anything for a row that has none."""
    places = choices.offsets[rows] + place.astype(np.int64)
    return (
        choices.texts[np.minimum(places, len(choices.texts) - 1)]
        if len(choices.texts)
        else np.zeros(len(rows), dtype=np.int64)
    )


def field_texts(
    manifest: Manifest, fields: Iterable[str], *, lists: Literal["joined", "each"]
) -> list[list[str]]:
    """For every row, the texts of the fields with a value; lists are joined by commas, or taken apart."""
    columns = [
        manifest.field(_plain(name))
        for name in fields
        if not name.endswith("?") or _plain(name) in manifest.field_names
    ]
    return [
        [text for column in columns for text in _texts(column[row], lists)] for row in range(len(manifest))
    ]


def _texts(value: Any, lists: Literal["joined", "each"]) -> list[str]:
    if isinstance(value, list | tuple):
        items = [str(item) for item in value if item is not None]
        return items if lists == "each" else [", ".join(items)]
    if isinstance(value, dict):
        raise DataError(
            "texts.fields names a field that holds mappings, expected text or lists; "
            "for captions by language set texts.NAME.language."
        )
    return [] if value is None else [str(value)]


def texts_of(manifest: Manifest, configs: Iterable[TextViewConfig]) -> Iterable[str]:
    """Every text that these views may read, as often as it occurs: what a vocabulary is trained on."""
    for config in configs:
        if config.of is not None:
            continue  # the words of another view
        for row in manifest.captions(language=config.language):
            yield from row
        for row in field_texts(manifest, config.fields, lists=config.lists):
            yield from filter(None, row)
