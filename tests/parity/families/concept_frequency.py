"""Concept frequency: the published bins and fits, the long-tail line, misalignment, and the word index.

Source of the arrays: the released counts and accuracies of frequency_determines_performance (MIT). Counts are
exact, bin means rtol 1e-9, correlations, slopes and intercepts atol 1e-5 since the tables have six digits.
"""

import csv
import json
import re
import tempfile
from pathlib import Path

import numpy as np

from frugalclip.auditing.fits import Line, binned, concept_fit
from frugalclip.auditing.misalignment import misalignment
from frugalclip.auditing.postings import Postings
from frugalclip.auditing.words import WordForms, content

LINE = {"slope": 0.6030346847, "intercept": -7.5903982410, "r": 0.87025}  # of the nine public models


def check_concept_frequency_table(path: Path) -> None:
    """The bins of a table, or the fits that belong to it."""
    if path.suffix == ".csv":
        _check_fits(path)
    else:
        _check_bins(path)


def _check_bins(path: Path) -> None:
    a = dict(np.load(path, allow_pickle=False))
    assert len(set(zip(a["dataset"].tolist(), a["concept"].tolist(), strict=True))) == len(a["concept"])
    joint, image, text = (a[f"freq_{kind}"] for kind in ("joint", "image", "text"))
    both = (joint >= 0) & (text >= 0) & (image >= 0)
    assert (joint <= np.minimum(text, image))[both].all()
    keys = [name.removeprefix("bins_") for name in a if name.startswith("bins_")]
    assert keys
    for key in keys:
        kind, _, model = key.partition("_")
        released = a[f"freq_{kind}"] >= 0
        found = binned(a[f"freq_{kind}"][released], a[f"acc_ensemble_{model}"][released])
        np.testing.assert_allclose(found.edges, a[f"bins_{key}"], rtol=1e-9)
        np.testing.assert_array_equal(found.sizes, a[f"bincount_{key}"])
        np.testing.assert_allclose(found.means, a[f"binmean_{key}"], rtol=1e-9)
        np.testing.assert_allclose(found.deviations, a[f"binstd_{key}"], rtol=1e-9, atol=1e-9)
    for name, values in a.items():
        if name.startswith("acc_"):
            assert ((values >= 0) & (values <= 100)).all(), name


def _check_fits(path: Path) -> None:
    table = np.load(path.with_name(path.name.replace("_fits.csv", ".npz")), allow_pickle=False)
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert rows
    for row in rows:
        counts, accuracies = table[f"freq_{row['freq']}"], table[f"acc_{row['prompt']}_{row['model']}"]
        released = counts >= 0
        counts, accuracies = counts[released], accuracies[released]
        first = int(row["first_bin"])
        # the authors leave out the last bin; of SynthCI-30M, where they begin with the first, the last four
        line = binned(counts, accuracies).line(drop_first=first, drop_last=1 if first else 4)
        fit = concept_fit(counts, accuracies)
        found = {
            "n": len(counts),
            "n_zero": fit.zeros,
            "binned_r": line.r,
            "binned_slope_per_decade": line.slope,
            "binned_intercept": line.intercept,
            "concept_r_all": fit.r_all,
            "concept_r_pos": fit.r_found,
            "concept_slope_pos_per_decade": fit.slope,
            "concept_intercept_pos": fit.intercept,
            "spearman_all": fit.spearman,
        }
        for name, value in found.items():
            np.testing.assert_allclose(value, float(row[name]), rtol=0, atol=1e-5, err_msg=f"{row} {name}")


def check_concept_frequency_letitwag(path: Path) -> None:
    """The line of long-tail accuracy over ImageNet accuracy, against least squares."""
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert len({(row["backbone"], row["pretraining"]) for row in rows}) == len(rows)
    x, y = (np.array([float(row[name]) for row in rows]) for name in ("imagenet_top1", "letitwag_top1"))
    line = Line.through(x, y)
    (slope, intercept), *_ = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1), y, rcond=None)
    wanted = {"slope": slope, "intercept": intercept, "r": np.corrcoef(x, y)[0, 1]}
    for name, value in wanted.items():
        np.testing.assert_allclose(getattr(line, name), value, rtol=1e-9)
    if path.name == "concept_frequency_letitwag_low.csv":
        for name, value in LINE.items():
            np.testing.assert_allclose(getattr(line, name), value, atol=1e-5)


def check_concept_frequency_misalign(path: Path) -> None:
    """Frequencies, numbers of samples, and the degree by its three definitions."""
    a = np.load(path, allow_pickle=False)
    texts, images = a["text_concepts"], a["image_concepts"]
    together = texts & images
    for name, of in (("text", texts), ("image", images), ("joint", together)):
        np.testing.assert_array_equal(of.sum(axis=0), a[f"{name}_freq"])
    found = misalignment(
        *(of.sum(axis=1) for of in (texts, images, together)), samples=int(a["dataset_size"])
    )
    counted = (found.texts, found.images, found.both, found.misaligned)
    assert counted == tuple(int(a[name]) for name in ("n_text", "n_image", "n_both", "misaligned"))
    for name, value in (
        ("extracted", found.of_extracted),
        ("fixed", found.of_all),
        ("intersection", found.of_both),
    ):
        np.testing.assert_allclose(value, a[f"degree_{name}"], rtol=1e-12)


def check_concept_frequency_textindex(path: Path) -> None:
    """Quirks: our index finds what a scan finds, and differs from the published one where that is wrong.

    The file's own index and hits are recomputed by the rules of the card, so it is read in full.
    """
    content_of = json.loads(path.read_text(encoding="utf-8"))
    docs, queries = content_of["docs"], content_of["queries"]
    index = _published_index(docs)
    assert index == content_of["index"]
    hits = [_published_hits(index, query) for query in queries]
    assert hits == content_of["hits"]
    assert [len(found) for found in hits] == content_of["counts"]
    forms = WordForms(lemma=lambda word: word)  # the documents are lemmas already
    texts = [forms(" ".join(lemma for lemma, _ in doc)) for doc in docs]
    with tempfile.TemporaryDirectory() as folder:
        postings = Postings.of(enumerate(texts), Path(folder))
        ours = [postings.rows_with(content(forms(" ".join(query)))).tolist() for query in queries]
    for query, own, published in zip(queries, ours, hits, strict=True):
        words = content(forms(" ".join(query)))
        assert own == [i for i, text in enumerate(texts) if set(words) <= set(text)]
        if all(_is_plain_noun(word, docs) for word in query):
            assert own == published
        if any(word not in index for word in query):  # they leave such a word out, we do not
            assert set(own) <= set(published) or _is_case_or_digit(query, docs)


def _published_index(docs: list[list[list[str]]]) -> dict[str, list[int]]:
    """Nouns as they are spelled, without digits; the first document stands twice."""
    index: dict[str, list[int]] = {}
    for number, doc in enumerate(docs):
        words = {re.sub("[^A-Za-z ]", "", lemma) for lemma, tag in doc if tag in ("NOUN", "PROPN")}
        for word in words:
            index.setdefault(word, [number]).append(number)
    return index


def _published_hits(index: dict[str, list[int]], query: list[str]) -> list[int]:
    known = [set(index[word]) for word in query if word in index]
    return sorted(set.intersection(*known)) if known else []


def _is_plain_noun(word: str, docs: list[list[list[str]]]) -> bool:
    """Whether the word occurs, only as a noun, only in small letters: where both indexes must agree."""
    forms = WordForms(lemma=lambda one: one)
    same = [(lemma, tag) for doc in docs for lemma, tag in doc if word.casefold() in forms(lemma)]
    is_plain = all(lemma == word and lemma.islower() and tag == "NOUN" for lemma, tag in same)
    return bool(same) and word.isalpha() and word.isascii() and is_plain


def _is_case_or_digit(query: list[str], docs: list[list[list[str]]]) -> bool:
    """Whether a word of the query is in a document that the published index does not find it in."""
    lemmas = {(lemma.casefold(), tag) for doc in docs for lemma, tag in doc}
    words = {word.casefold() for word, _ in lemmas}
    return any(word.casefold() in words for word in query)
