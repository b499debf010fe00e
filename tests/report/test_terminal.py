from rich.console import Console

from frugalclip.report.rows import ChangedValue, Column, Label, Measure, ReportTable, Strip
from frugalclip.report.terminal import cell_text, print_evaluation, print_table


def printed(print_it, *given) -> str:
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        print_it(*given, console)
    return capture.get()


def test_cells_are_short_and_drawings_are_left_out():
    assert cell_text(Label("Top-1 accuracy", note="long", short="Top-1")).plain == "Top-1"
    assert cell_text(Measure(40.0, (30.0, 50.0))).plain == "40.0 (30.0–50.0)"
    assert cell_text(Measure(3.5, in_percent=False)).plain == "3.50"
    assert cell_text(ChangedValue(30.0, -10.0, (-12.0, 1.5))).plain == "30.0\n−10.0 (−12.0 to +1.5)"
    assert cell_text(None).plain == "—"
    columns = [Column("a"), Column("b", kind="strip-column"), Column("c", short="see")]
    shown = printed(
        print_table, ReportTable("t", columns, [["[red]x", Strip(1.0, None, (), "hidden"), 12345]])
    )
    assert "[red]x" in shown  # text of others is not markup
    assert "see" in shown and "12,345" in shown and "hidden" not in shown


def test_an_evaluation_fits_80_columns(evaluation):
    values = {"top1": 100.0, "generalised_mean_per_class": 100.0}
    evaluation |= {
        "metrics": values,
        "interval": {name: [99.5, 100.0] for name in values},
        "chance": dict.fromkeys(values, 0.54),
        "baselines": {f"{kind}_nn_{k}": values for kind in ("pixel", "feature") for k in (1, 10)},
    }
    lines = printed(print_evaluation, evaluation).splitlines()
    row = next(line for line in lines if "Class mean, all names" in line)
    assert row.split()[-7:] == ["100.0", "(99.5–100.0)", "0.54", "100.0", "100.0", "100.0", "100.0"]
    assert "Data colours/; condition split=test; split hash 0123456789abcdef" in " ".join(lines)
