"""Words of a lexical model: images beside their top words, and the words that it uses most.

Reads the result of `frugalclip evaluate --task words`; its images were drawn at random.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.manifest import Manifest
from frugalclip.report.evaluations import chance_of
from frugalclip.report.formats import number, percent, shorten
from frugalclip.report.gallery import LONGEST, SIDE, Described, Hit, thumbnail
from frugalclip.report.html import ReportSection, described_images
from frugalclip.report.rows import Column
from frugalclip.report.tables import table


def words_result(evaluations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The first evaluation of words, if there is one."""
    return next(
        (one for one in evaluations if one.get("task") == "words" and isinstance(one.get("words"), Mapping)),
        None,
    )


def describe_images(manifest: Manifest, evaluations: Sequence[Mapping[str, Any]]) -> tuple[Described, ...]:
    """The images that an evaluation of words drew, with their top words.

    Args:
        manifest: the evaluated rows; images that are not among them are left out.
        evaluations: of a run; without one of words, nothing is found.
    """
    drawn = ((words_result(evaluations) or {}).get("examples") or {}).get("words") or ()
    row_of = {name: row for row, name in enumerate(manifest.ids)} if drawn else {}
    return tuple(_described(manifest.take([row_of[one["id"]]]), one) for one in drawn if one["id"] in row_of)


def _described(manifest: Manifest, drawn: Mapping[str, Any]) -> Described:
    """One row with its top words."""
    caption = shorten(next(iter(manifest.captions()[0]), ""), LONGEST)
    try:
        small = thumbnail(ImageReader(manifest).image(0, at_least=2 * SIDE), caption)
    except BadImage:
        small = None
    return Described(
        caption, tuple(Hit(one["weight"], one["is_hit"], one["word"]) for one in drawn["words"]), small
    )


def words_section(
    evaluations: Sequence[Mapping[str, Any]], described: Sequence[Described]
) -> ReportSection | None:
    """The section of a report, or None for a model that has no words.

    Args:
        evaluations: of the run.
        described: images with their words, from `describe_images`.
    """
    result = words_result(evaluations)
    if result is None:
        return None
    found, metrics = result["words"], result["metrics"]
    chance = chance_of(result, "words_precision")
    against = f" (chance {percent(chance)})" if chance is not None else ""
    precision, above = percent(metrics["words_precision"]), number(round(metrics["non_zeros"]))
    intro = (
        "Ten top words of each image, with their weights; the images are drawn at random. Ticked words "
        f"are in the {found['of']}, compared {found['compared']}: {precision} of all top words{against}. "
        f"An image has {above} words above zero of the {number(found['vocabulary'])} in the vocabulary."
    )
    rows = [[one["word"], percent(one["images"])] for one in found["used"]]
    used = table(
        [Column("Word"), Column("Images", numeric=True)],
        rows,
        caption="The words that most images have among their top ten",
    )
    return ReportSection(
        "words",
        "Words of images",
        described_images(described) + f'<div class="evaluation apart">{used}</div>',
        intro,
    )
