"""Weights & Biases: a run in the cloud, or offline with WANDB_MODE=offline."""

import os
from collections.abc import Mapping
from typing import final

from frugalclip.core.errors import require
from frugalclip.training.sinks.base import RunInfo, Sink


@final
class WandbSink(Sink):
    """Logs to one run of the project `frugalclip`, or that of $WANDB_PROJECT."""

    def __init__(self, info: RunInfo) -> None:
        service = require("wandb", extra="log", purpose="log: [wandb]")
        project = os.environ.get("WANDB_PROJECT") or "frugalclip"
        self.run = service.init(
            project=project, name=info.name, dir=str(info.directory), config=dict(info.recipe)
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()
