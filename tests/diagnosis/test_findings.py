from importlib import metadata

from frugalclip.diagnosis.findings import ABSENT, BAD, Diagnosis, Finding, one_line, version_of


def test_only_bad_findings_are_faults():
    findings = [Finding("a", "b", "c"), Finding("a", "d", "e", ABSENT), Finding("a", "f", "g", BAD)]
    assert [fault.name for fault in Diagnosis(findings).faults] == ["f"]


def test_versions_come_from_the_metadata():
    assert version_of("numpy") == metadata.version("numpy")
    assert version_of("no-such-distribution") is None


def test_long_text_is_cut():
    assert one_line("a\n b", 10) == "a b"
    assert one_line("abcdefgh", 6) == "abc..."
