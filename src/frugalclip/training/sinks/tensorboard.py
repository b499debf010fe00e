"""TensorBoard: event files in the run's folder `tensorboard`, for `tensorboard --logdir RUN`."""

from collections.abc import Mapping
from typing import final

from frugalclip.training.sinks.base import RunInfo, Sink


@final
class TensorboardSink(Sink):
    """Writes event files; rows past the checkpoint of a resumed run are purged."""

    def __init__(self, info: RunInfo) -> None:
        from torch.utils.tensorboard import SummaryWriter  # waits for the package

        purged = info.step + 1 if info.step else None
        self.writer = SummaryWriter(str(info.directory / "tensorboard"), purge_step=purged)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()
