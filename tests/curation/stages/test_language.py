from ..conftest import MakeRows, decided


def test_other_languages_are_dropped_and_names_stay(make_rows: MakeRows):
    rows = make_rows(
        ["a red car on the street", "ein rotes Auto auf der Straße", "Auto", "", "une voiture dans la rue"]
    )
    assert decided(rows, "language", keep="en") == [None, "other-language", None, None, "other-language"]
    assert decided(rows, "language", keep=["en", "de"])[1] is None
