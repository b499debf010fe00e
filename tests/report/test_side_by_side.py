"""Models in one table are called by what tells them apart."""

from frugalclip.report.side_by_side import distinct_tails


def test_names_are_as_short_as_tells_them_apart():
    names = ["runs/a/model", "runs/b/model", "hf:other"]
    assert distinct_tails(names) == {
        "runs/a/model": "a/model",
        "runs/b/model": "b/model",
        "hf:other": "hf:other",
    }
    assert distinct_tails(["runs/one/", "runs/two"]) == {"runs/one/": "one", "runs/two": "two"}
    assert distinct_tails(["same", "same"]) == {"same": "same"}
