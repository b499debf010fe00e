"""Rows whose caption names a collection."""

from dataclasses import replace
from pathlib import Path

from frugalclip.data.manifest import image_places, make_manifest

from ..conftest import MakeRows, decided

THINGS = ["folder", "guitar", "lamp", "mouse", "penguin", "printer", "trophy", "window"]


def test_rows_of_a_collection_go_and_rows_with_their_own_caption_stay(make_rows: MakeRows):
    ids = [f"theme-{thing}" for thing in THINGS] + ["x-cat", "x-dog"]
    captions = [["Lemon theme"]] * 8 + [["a cat"], ["a dog"]]
    manifest = make_manifest(
        ids=ids, images=image_places(ids), captions=captions, fields={}, root=Path(), name="rows"
    )
    rows = replace(make_rows([""] * 10), manifest=manifest)
    assert decided(rows, "collection_captions") == ["collection-caption"] * 8 + [None, None]
    assert decided(rows, "collection_captions", least_rows=9) == [None] * 10
    assert decided(make_rows(["Lemon theme"] * 10), "collection_captions") == [None] * 10  # ids are numbers
