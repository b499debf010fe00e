"""The settings of scenes: the plan of `frugalclip data compose`."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from frugalclip.core.config import Settings, shorthand

LEVELS = ("short", "medium", "long")
SIZES = ("tiny", "small", "medium", "large")
BACKGROUNDS = ("plain", "gradient", "speckled", "striped", "split")
MOST_OBJECTS = 8
Share = Annotated[float, Field(ge=0, le=1)]


def _weighs_something(weights: dict[str, float]) -> dict[str, float]:
    if not weights or min(weights.values()) < 0 or not sum(weights.values()) > 0:
        raise ValueError("expected weights of which none is negative and one is above 0")
    return weights


Weights = Annotated[dict[str, float], AfterValidator(_weighs_something)]


class FrequencyConfig(Settings):
    """How often each concept is drawn."""

    kind: Literal["uniform", "zipf", "table"] = Field(
        "uniform", description="uniform; zipf: 1 / rank ** exponent, ranks drawn by lot; table"
    )
    exponent: float = Field(1.0, ge=0, description="of zipf; 0 is uniform")
    table: dict[str, float] = Field(
        default_factory=dict,
        description="for table: concept or name -> weight; concepts not named do not occur",
    )

    @model_validator(mode="after")
    def _has_a_table(self) -> Self:
        if (self.kind == "table") != bool(self.table):
            raise ValueError(
                "kind: table and a table go together; give both, such as "
                "{kind: table, table: {cat: 3, dog: 1}}, or neither"
            )
        if self.table:
            _weighs_something(self.table)
        return self


class CaptionConfig(Settings):
    """Which captions a scene gets; every scene gets at least one."""

    short: Share = Field(1.0, description="share of scenes with a caption of one phrase")
    medium: Share = Field(1.0, description="share with one to three sentences")
    long: Share = Field(0.5, description="share with a description of many sentences")
    long_words: tuple[int, int] = Field(
        (50, 170),
        description="least and most words that a long caption aims at; drawn evenly in their logarithm",
    )
    key_word: Share = Field(
        0.0, description="share of scenes whose long caption names one object only after the 77th CLIP token"
    )

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if not max(self.short, self.medium, self.long):
            raise ValueError("no scene would have a caption; set one of short, medium, long above 0")
        least, most = self.long_words
        if not 10 <= least <= most <= 400:
            raise ValueError("long_words takes the least and the most, between 10 and 400, such as [50, 170]")
        if self.key_word > self.long:
            raise ValueError(
                f"key words stand in long captions, and only a share of {self.long} has one; "
                f"set captions.long to {self.key_word} or more"
            )
        return self


class SplitConfig(Settings):
    """How scenes and cut-outs are divided; cut-outs first, so that concepts of test scenes are new there."""

    scenes: Weights = Field(
        default_factory=lambda: {"train": 0.9, "val": 0.05, "test": 0.05},
        description="share of scenes in each split",
    )
    cutouts: Weights = Field(
        default_factory=lambda: {"train": 0.8, "val": 0.1, "test": 0.1},
        description="share of families, where divided by hash",
    )
    field: str = Field(
        "auto",
        description="field that divides cut-outs; auto: 'split' if it keeps families whole; none: by hash",
    )
    shared: Share = Field(
        0.0, description="chance that an object of a val or test scene is drawn from the concepts of train"
    )
    styles: dict[str, list[str]] = Field(
        default_factory=dict, description="split -> styles its scenes use; a split not named uses all"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if unknown := [name for name in self.styles if name not in self.scenes]:
            raise ValueError(
                f"styles names the split '{unknown[0]}', which no scene is in; known: "
                f"{', '.join(self.scenes)}"
            )
        if self.shared and "train" not in self.scenes:
            raise ValueError(
                "shared draws from the concepts of train, but no scene is in train; add it to splits.scenes"
            )
        return self


class PlantedConfig(Settings):
    """Faults planted on purpose, each at a share of the training scenes; a scene has one at most."""

    swapped: Share = Field(0.0, description="captions exchanged with another scene's")
    dropped_words: Share = Field(0.0, description="captions that lost words")
    dropped_share: float = Field(
        0.3, gt=0, lt=1, description="of the words of such a caption, how many are lost"
    )
    wrong_object: Share = Field(
        0.0, description="captions that name a thing which is not there in place of one that is"
    )
    duplicates: Share = Field(
        0.0, description="copies of an earlier training scene: same bytes, same captions"
    )
    near_duplicates: Share = Field(
        0.0, description="an earlier training scene again, slightly moved and shaded, in other words"
    )
    leaks: Share = Field(0.0, description="training scenes that are copies of an earlier val or test scene")

    @property
    def rates(self) -> dict[str, float]:
        """Name of the fault, as in the field `planted`, -> share of training scenes."""
        return {
            "swapped": self.swapped,
            "dropped-words": self.dropped_words,
            "wrong-object": self.wrong_object,
            "duplicate": self.duplicates,
            "near-duplicate": self.near_duplicates,
            "leak": self.leaks,
        }

    @model_validator(mode="after")
    def _leave_room(self) -> Self:
        if sum(self.rates.values()) > 1:
            raise ValueError(
                f"the shares of planted faults add up to {sum(self.rates.values()):g}, expected at most 1; "
                "a scene has one fault at most"
            )
        return self


class ScenePlan(Settings):
    """Everything that scenes depend on besides their number and the cut-outs."""

    seed: int = Field(0, ge=0, description="every draw derives from it and the number of the scene")
    canvas: int = Field(96, ge=32, le=256, description="height and width of a scene in pixels")
    where: str | None = Field(None, description="cut-outs to use, such as is_flag=false")
    name_field: str = Field(
        "auto", description="field of an object's name; auto: name, else label, else the caption"
    )
    concept_field: str = Field(
        "auto", description="field of what a cut-out shows; auto: concept, else the name"
    )
    family_field: str = Field(
        "auto",
        description="field of what must not be in two splits; auto: family, else component, else the concept",
    )
    style_field: str = Field(
        "auto", description="field of the drawing style; auto: style where there is one; none"
    )
    objects: tuple[int, int] = Field((2, 6), description="fewest and most objects of a scene")
    frequencies: Annotated[FrequencyConfig, BeforeValidator(shorthand("kind"))] = Field(
        default_factory=FrequencyConfig
    )
    repeat: Share = Field(0.15, description="chance that an object is a further copy of the one before")
    mixed_styles: Share = Field(0.1, description="share of scenes whose objects are of any style, not of one")
    sizes: Weights = Field(
        default_factory=lambda: {"tiny": 1, "small": 3, "medium": 3, "large": 2},
        description="how often each size is drawn",
    )
    overlap: Share = Field(0.3, description="chance that an object may stand in front of another one")
    tint: Share = Field(0.2, description="chance that an object is painted in a named colour")
    mirror: Share = Field(0.3, description="chance that an object is mirrored")
    backgrounds: Weights = Field(
        default_factory=lambda: dict.fromkeys(BACKGROUNDS, 1),
        description="how often each kind of background is drawn",
    )
    captions: CaptionConfig = Field(default_factory=CaptionConfig)
    splits: SplitConfig = Field(default_factory=SplitConfig)
    planted: PlantedConfig = Field(default_factory=PlantedConfig)
    format: Literal["jpeg", "webp", "png"] = Field(
        "jpeg", description="of the pictures; jpeg is the fastest, webp the smallest, png exact"
    )
    quality: int = Field(85, ge=1, le=100, description="of jpeg and webp")
    shard: int = Field(1000, ge=1, description="scenes of one tar")

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        fewest, most = self.objects
        if not 1 <= fewest <= most <= MOST_OBJECTS:
            raise ValueError(
                f"objects takes the fewest and the most, between 1 and {MOST_OBJECTS}, such as [2, 6]"
            )
        for name, known in (("sizes", SIZES), ("backgrounds", BACKGROUNDS)):
            if unknown := [word for word in getattr(self, name) if word not in known]:
                raise ValueError(f"{name} has no '{unknown[0]}'; known: {', '.join(known)}")
        if self.planted.leaks and not set(self.splits.scenes) - {"train"}:
            raise ValueError(
                "a leak copies a val or test scene into train, but every scene is in train; "
                "add another split to splits.scenes"
            )
        return self

    def key(self) -> str:
        """The plan as canonical JSON: what a shard must agree with."""
        return self.model_dump_json()
