"""The ledger: each stage has its own reasons, and every sample has one fate."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frugalclip.core.errors import DataError
from frugalclip.data.ledger import Entry, Ledger, LedgerStage, causes_of, ledger_meanings, read_ledger

SCAN = LedgerStage(
    "scan", {"lost": "nobody finds it", "skipped": "left out on purpose"}, frozenset({"skipped"})
)
BALANCE = LedgerStage(
    "balance", {"lost": "too many of its kind", "joined": "went to another one", "kept-rare": "kept"}
)


def test_a_new_stage_brings_its_own_reasons(tmp_path: Path):
    scan, balance = Ledger(SCAN), Ledger(BALANCE)
    scan.drop("a", "lost", "in a drawer")
    scan.drop("b", "skipped")
    balance.include(scan)
    balance.drop("c", "lost")
    balance.merge("d", "joined", "to e")
    balance.remark("f", "kept-rare")
    balance.write(tmp_path / "x.ledger.parquet", kept=["e", "f"], seen=6)
    table = read_ledger(tmp_path / "x.ledger.parquet")
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        ("e", "kept", None, None, None),
        ("f", "kept", "balance", "kept-rare", ""),
        ("a", "dropped", "scan", "lost", "in a drawer"),
        ("b", "dropped", "scan", "skipped", ""),
        ("c", "dropped", "balance", "lost", ""),
        ("d", "merged", "balance", "joined", "to e"),
    ]
    assert table.column_names == ["id", "status", "stage", "reason", "detail"]
    assert ledger_meanings(table) == {"scan": dict(SCAN.reasons), "balance": dict(BALANCE.reasons)}
    assert [entry.id for entry in balance.bad] == ["a", "c"]  # left out on purpose is no damage


def test_a_stage_gives_no_reason_of_another_one():
    with pytest.raises(AssertionError, match="scan has no reason 'joined'"):
        Ledger(SCAN).drop("a", "joined")


def test_every_sample_met_has_an_entry(tmp_path: Path):
    ledger = Ledger(SCAN, [Entry("a", SCAN, "lost")])
    with pytest.raises(AssertionError, match="3 samples were met but 2 have an entry"):
        ledger.write(tmp_path / "x.parquet", kept=["b"], seen=3)
    Ledger(SCAN).write(tmp_path / "x.parquet", kept=[], seen=0)
    assert read_ledger(tmp_path / "x.parquet").num_rows == 0


def test_causes_come_with_counts_words_and_examples():
    entries = [Entry("a", SCAN, "skipped"), *(Entry(str(i), SCAN, "lost", f"{i}") for i in range(3))]
    first, second = causes_of(entries, examples=2)
    assert (first.reason, first.meaning, first.count) == ("lost", "nobody finds it", 3)
    assert [entry.id for entry in first.examples] == ["0", "1"]
    assert (second.reason, second.count) == ("skipped", 1)
    assert Ledger(SCAN, entries).in_words() == "3 lost, 1 skipped"


def test_remarks_follow_their_samples_to_new_ids():
    ledger = Ledger(BALANCE)
    ledger.remark("f", "kept-rare", "of two")
    ledger.drop("g", "lost")
    renamed = ledger.renamed(["e", "f"], ["x/e", "x/f"])
    assert renamed.remarks["x/f"].detail == "of two" and "f" not in renamed.remarks
    assert [entry.id for entry in renamed.entries] == ["g"]


def test_another_file_or_version_is_refused(tmp_path: Path):
    path = tmp_path / "x.parquet"
    with pytest.raises(DataError, match="is not a ledger"):
        read_ledger(path)
    whole = Ledger("reading").table(["a"])
    known = dict(whole.schema.metadata)
    for reasons in (b"\xe1", b"[]", b"5", b'{"x": []}', b'{"x": {"y": 1}}', b"[" * 100_000):
        told = whole.replace_schema_metadata(known | {b"frugalclip.ledger.reasons": reasons})
        pq.write_table(told, path)
        with pytest.raises(DataError, match=r"x\.parquet cannot be read .*write it again"):
            read_ledger(path)
    for table in (whole.drop_columns("id"), whole.append_column("more", pa.array([1]))):
        pq.write_table(table, path)
        with pytest.raises(DataError, match="its columns are not those of a ledger"):
            read_ledger(path)
    pq.write_table(pa.table({"id": ["a"]}, metadata={"frugalclip.ledger": "1"}), path)
    with pytest.raises(DataError, match="is a ledger of version 1, expected 2"):
        read_ledger(path)
