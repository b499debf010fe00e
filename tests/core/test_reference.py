"""Settings are described from their classes: names, units, defaults, sections and values."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from frugalclip.core.config import Settings, by_kind, of_kind
from frugalclip.core.reference import Setting, sections, setting_of, unit_of, values


class Disc(Settings):
    """A round one."""

    kind: Literal["disc"] = "disc"
    radius: float = Field(3.0, gt=0, description="half of its width in pixels")


class Square(Settings):
    """One with corners."""

    kind: Literal["square"] = "square"
    side: int = Field(2, ge=1, description="side in pixels")


Shape = Annotated[
    Annotated[Disc, of_kind("disc")] | Annotated[Square, of_kind("square")], by_kind("disc", "square")
]


class Drawing(Settings):
    """A drawing."""

    shape: Shape = Field(default_factory=Disc, description="what is drawn")
    named: dict[str, Square] = Field(default_factory=dict, description="squares by name")
    source: str = Field("", alias="from", description="where it comes from")
    share: float = Field(0.5, ge=0, le=1, description="share of ink")
    weights: tuple[float, ...] = Field((), description="one for each colour")
    is_open: bool = Field(False, description="whether it is open")
    batch: int = Field(gt=0, description="drawings at once")


def field(name: str):
    return Drawing.model_fields[name]


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("share", "0 to 1"),
        ("source", "text"),
        ("is_open", "true or false"),
        ("weights", "number"),
        ("named", "mapping"),
        ("shape", "section"),
        ("batch", "number"),
    ],
)
def test_a_unit_is_read_from_type_bounds_and_description(name: str, unit: str):
    assert unit_of(field(name)) == unit


def test_a_number_has_the_unit_that_its_description_names():
    assert unit_of(Disc.model_fields["radius"]) == "pixels"


def test_a_setting_has_the_name_that_recipes_use():
    assert setting_of("source", field("source"), "a.b") == Setting(
        "a.b.from", "text", '""', "where it comes from"
    )
    assert setting_of("batch", field("batch")).default == "required"


def test_sections_go_through_kinds_and_names():
    found = [(one.path, one.kind, one.title) for one in sections(Drawing)]
    assert found == [
        ("", "", "A drawing."),
        ("shape", "disc", "A round one."),
        ("shape", "square", "One with corners."),
        ("named.NAME", "square", "One with corners."),
    ]
    assert [one.name for one in next(sections(Disc, "shape")).settings] == ["shape.radius"]


def test_values_say_which_differ_from_the_default():
    drawing = Drawing.model_validate({"shape": {"radius": 4}, "named": {"a": {"side": 2}}, "batch": 1})
    found = {one.setting.name: (one.value, one.is_default) for one in values(drawing)}
    assert found["shape.radius"] == ("4", False)
    assert found["named.a.side"] == ("2", True)
    assert found["share"] == ("0.5", True)
    assert found["batch"] == ("1", True)  # without a default, nothing can differ from it
