"""Trackio: a local dashboard, `trackio show`, or a Hugging Face Space."""

import os
from collections.abc import Mapping
from typing import final

from frugalclip.core.errors import require
from frugalclip.training.sinks.base import RunInfo, Sink


@final
class TrackioSink(Sink):
    """Logs to one run of the project `frugalclip`, or that of $TRACKIO_PROJECT."""

    def __init__(self, info: RunInfo) -> None:
        service = require("trackio", extra="log", purpose="log: [trackio]")
        project = os.environ.get("TRACKIO_PROJECT") or "frugalclip"
        self.run = service.init(project=project, name=info.name, config=dict(info.recipe))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()
