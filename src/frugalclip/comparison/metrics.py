"""The settings of one metric of a comparison: task, metric, pool, rows and groups."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from frugalclip.core.config import Settings
from frugalclip.core.errors import known_names
from frugalclip.evaluation.retrieval import DEPTHS

METRICS = {
    "zeroshot": ("top1", "top5", "mean_per_class"),
    "retrieval": tuple(f"{way}_r{k}" for way in ("t2i", "i2t") for k in DEPTHS),
}
_ABOUT = {"where", "primary", "description"}  # which rows, and what for; rows are identified by their hash


class MetricConfig(Settings):
    """A metric and the rows it is evaluated on."""

    task: Literal["zeroshot", "retrieval"] = "zeroshot"
    metric: str = Field(
        "",
        description="zeroshot: top1, top5, mean_per_class; retrieval: t2i_r1, i2t_r1, …; default the first",
    )
    pool: Literal["restricted", "all"] = Field(
        "restricted", description="candidate names: those of the evaluated rows, or of all the data"
    )
    label_field: str | None = Field(
        None, description="field that names the class of a row; null: label, else the first caption"
    )
    group: str | None = Field(
        None, description="field whose equal values are resampled together, such as family; null: each row"
    )
    prompts: str = Field("plain", description="a prompt set")
    where: str | None = Field(
        None,
        description="condition of the evaluated rows, in which {split} is the chosen split; "
        "null: the validation set",
    )
    primary: bool = Field(False, description="the metric of the verdicts; one of them, by default the first")
    description: str = Field("", description="what the metric measures, for the reader")

    @model_validator(mode="before")
    @classmethod
    def _fill_in_metric(cls, content: Any) -> Any:
        if isinstance(content, dict) and not content.get("metric"):
            return {**content, "metric": METRICS.get(str(content.get("task", "zeroshot")), ("",))[0]}
        return content

    @model_validator(mode="after")
    def _check_metric(self) -> Self:
        known = METRICS[self.task]
        if self.metric not in known:
            raise ValueError(
                f"metric {self.metric} is not one of {self.task}; {known_names(self.metric, known)}"
            )
        if self.pool == "all" and self.task == "retrieval":
            raise ValueError("pool: all belongs to zeroshot; retrieval always searches the evaluated rows")
        return self

    def content(self) -> dict[str, Any]:
        """What is measured, without the condition of the rows and the description."""
        return self.model_dump(mode="json", exclude=_ABOUT)

    @property
    def name(self) -> str:
        """The metric as evaluations name it, `generalised_top1` for the pool of all names."""
        return ("generalised_" if self.pool == "all" else "") + self.metric
