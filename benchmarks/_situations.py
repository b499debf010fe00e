"""Small training sets in which classes differ in frequency, mentions and styles, with test rows of each.

A situation is drawn from a pack by its seed. Classes are values of a field, or words of captions. Groups
(families, near duplicates) are whole on one side. `tail` thins every class by a rate of its own; `mentions`
adds the names of classes to some captions, or takes them out; `styles` leaves a class some styles only.
"""

import os
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from frugalclip.auditing.words import WordForms, content
from frugalclip.core.random import stream_seed
from frugalclip.data.manifest import CAPTIONS, Manifest
from frugalclip.data.words import normalise
from frugalclip.evaluation.groups import find_groups
from frugalclip.sources.open import open_data

PACKS = {
    "noto": "emoji-noto",
    "twemoji": "emoji-twemoji",
    "openmoji": "emoji-openmoji",
    "styles": "emoji-{noto,twemoji,openmoji}",
    "clipart": "clipart",
    "healthicons": "healthicons",
    "gameicons": "gameicons",
    "mdi": "mdi",
    "stamps": "stamps",
}
SOURCES = {"noto": "emoji", "twemoji": "emoji", "openmoji": "emoji", "styles": "emoji"}  # else the pack
MOST_CLASSES = 24
MOST_ROWS = 4000  # of a pack; a training set has half of them
LEAST_TESTED = 12  # test images of a class whose accuracy is a record
TESTED = 0.5  # share of groups


@dataclass(frozen=True)
class Situation:
    """What is drawn of which pack, and how it is damaged."""

    pack: str  # of PACKS
    classes: str  # a field, or words
    seed: int
    share: float = 1.0  # of the training rows
    tail: bool = False
    mentions: bool = False
    styles: bool = False

    @property
    def name(self) -> str:
        """Of its files."""
        marks = [word for word in ("tail", "mentions", "styles") if getattr(self, word)]
        return "-".join([self.pack, self.classes, f"{self.share:g}", *marks, str(self.seed)])

    @property
    def source(self) -> str:
        """What is left out whole when a prediction is tested: the pictures, in whatever style."""
        return SOURCES.get(self.pack, self.pack)

    def random(self, use: str) -> np.random.Generator:
        """The generator of one kind of draw."""
        return np.random.default_rng(stream_seed(self.seed, f"{self.pack}/{self.classes}/{use}"))


@dataclass(frozen=True)
class Drawn:
    """A situation's rows. The field `classes` holds the names that are right for a row."""

    train: Manifest
    test: Manifest
    spare: Manifest  # training rows that were left out; their captions name all their classes
    names: list[str]


def packs_folder() -> str:
    """The folder that FRUGALCLIP_PACKS names."""
    return os.environ["FRUGALCLIP_PACKS"]


def pack_rows(situation: Situation) -> Manifest:
    """All rows of a situation's pack, without flags, or as many as are drawn."""
    pack = situation.pack
    manifest = open_data(f"{packs_folder()}/{PACKS[pack]}.tar")
    rows = np.arange(len(manifest))
    if "is_flag" in manifest.field_names:
        rows = np.flatnonzero([not flag for flag in manifest.field("is_flag")])
    if len(rows) > MOST_ROWS:
        rows = np.sort(situation.random("rows").permutation(rows)[:MOST_ROWS])
    return manifest.take(rows)


def drawn(situation: Situation) -> Drawn:
    """Draw a situation."""
    rows = pack_rows(situation)
    labels = _labels(situation, rows)
    groups = find_groups(rows).codes
    tested = _tested(situation, groups)
    names = _chosen(situation, labels, groups, tested)
    labels = [[name for name in own if name in names] for own in labels]
    test = np.flatnonzero(tested & np.array([bool(own) for own in labels]))
    train = _kept(situation, rows, labels, np.flatnonzero(~tested))
    spare = np.setdiff1d(np.flatnonzero(~tested), train)
    of_spare = [labels[row] for row in spare]
    training = _captioned(situation, rows.take(train), [labels[row] for row in train])
    return Drawn(
        _with_labels(training, [labels[row] for row in train]),
        _with_labels(rows.take(test), [labels[row] for row in test]),
        _with_labels(_naming(situation, rows.take(spare), of_spare), of_spare),
        sorted(names),
    )


def _labels(situation: Situation, rows: Manifest) -> list[list[str]]:
    """(rows,) names of the classes of each row."""
    if situation.classes == "words":
        forms = WordForms()
        texts = (" | ".join(own) for own in rows.captions())
        return [[w for w in content(forms(t)) if w.isalpha() and len(w) > 2] for t in texts]
    values = rows.field(situation.classes)
    lists = [value if isinstance(value, list) else [value] for value in values]
    return [[_spelled(one) for one in own if one] for own in lists]


def _spelled(value: str) -> str:
    words = value.split("/")[-1] if value.count("/") else value
    return normalise(words.replace("-", " ").replace("&", "and"))


def _tested(situation: Situation, groups: np.ndarray) -> np.ndarray:
    """(rows,) whether a row's group is in the test."""
    distinct = np.unique(groups)
    test = situation.random("test").permutation(distinct)[: round(TESTED * len(distinct))]
    return np.isin(groups, test)


def _chosen(
    situation: Situation, labels: list[list[str]], groups: np.ndarray, tested: np.ndarray
) -> set[str]:
    """Classes with enough test rows and two training groups; of two that nearly coincide one."""
    in_test = Counter(name for row in np.flatnonzero(tested) for name in set(labels[row]))
    in_train: dict[str, set[int]] = {}
    for row in np.flatnonzero(~tested):
        for name in labels[row]:
            in_train.setdefault(name, set()).add(int(groups[row]))
    fit = [n for n in sorted(in_test) if in_test[n] >= LEAST_TESTED and len(in_train.get(n, ())) >= 2]
    members = {name: {row for row, own in enumerate(labels) if name in own} for name in fit}
    chosen: list[str] = []
    for name in situation.random("classes").permutation(fit).tolist():
        own = members[name]
        if all(len(own & members[one]) < 0.6 * len(own | members[one]) for one in chosen):
            chosen.append(name)
    return set(chosen[:MOST_CLASSES])


def _kept(situation: Situation, rows: Manifest, labels: list[list[str]], train: np.ndarray) -> np.ndarray:
    """The training rows that are left."""
    names = sorted({name for own in labels for name in own})
    random = situation.random("kept")
    rates = dict(zip(names, 10 ** (-1.4 * random.random(len(names))), strict=True))
    draws = random.random(len(labels))
    limit = np.full(len(labels), float(situation.share))
    if situation.tail:
        limit *= [min((rates[name] for name in own), default=1.0) for own in labels]
    keep = draws < limit
    if situation.styles:
        styles = np.array(rows.field("style"))
        known = sorted(set(styles.tolist()))
        allowed = {
            name: set(random.permutation(known)[: random.integers(1, len(known) + 1)]) for name in names
        }
        keep &= [
            all(style in allowed[name] for name in own) for style, own in zip(styles, labels, strict=True)
        ]
    return train[keep[train]]


def _captioned(situation: Situation, rows: Manifest, labels: list[list[str]]) -> Manifest:
    """The rows with names of classes added to captions, or taken out."""
    if not situation.mentions:
        return rows
    random, forms = situation.random("mentions"), WordForms()
    names = sorted({name for own in labels for name in own})
    is_added = situation.classes != "words"
    rates = dict(zip(names, random.choice([0.0, 0.0, 0.3, 0.8, 1.0], len(names)), strict=True))
    captions = []
    for texts, own in zip(rows.captions(), labels, strict=True):
        chosen = [name for name in own if random.random() < rates[name]]
        if is_added:
            captions.append([", ".join([text, *chosen]) for text in texts])
        else:
            captions.append([_without(text, chosen, forms) for text in texts])
    table = rows.table
    for column, values in {"captions": captions, "keywords": _keywords(rows, labels, rates, forms)}.items():
        if values is not None:
            place = table.column_names.index(column)
            kind = CAPTIONS if column == "captions" else table.schema.field(column).type
            table = table.set_column(place, column, pa.array(values, kind))
    return Manifest(table, rows.root, rows.name)


def _naming(situation: Situation, rows: Manifest, labels: list[list[str]]) -> Manifest:
    """The rows with captions that name all their classes."""
    if situation.classes == "words":
        return rows
    captions = [
        [", ".join([text, *own]) for text in texts]
        for texts, own in zip(rows.captions(), labels, strict=True)
    ]
    place = rows.table.column_names.index("captions")
    return Manifest(
        rows.table.set_column(place, "captions", pa.array(captions, CAPTIONS)), rows.root, rows.name
    )


def _keywords(
    rows: Manifest, labels: list[list[str]], rates: dict[str, float], forms: WordForms
) -> list[list[str] | None] | None:
    """Keywords without the names of classes that captions are to lack."""
    if "keywords" not in rows.field_names:
        return None
    kept: list[list[str] | None] = []
    for words, own in zip(rows.field("keywords"), labels, strict=True):
        lost = {form for name in own if rates[name] < 1 for form in content(forms(name))}
        kept.append([w for w in words if not lost & set(forms(w))] if isinstance(words, list) else words)
    return kept


def _without(text: str, names: list[str], forms: WordForms) -> str:
    lost = {form for name in names for form in content(forms(name))}
    kept = [word for word in text.split() if not lost & set(forms(word))]
    return " ".join(kept) or "picture"


def _with_labels(rows: Manifest, labels: list[list[str]]) -> Manifest:
    table = rows.table.append_column("classes", pa.array(labels, CAPTIONS))
    return Manifest(table, rows.root, rows.name)
