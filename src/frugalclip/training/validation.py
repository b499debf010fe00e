"""The validation rows of a run, and how a model is evaluated on them at every evaluation point."""

import numpy as np
import torch

from frugalclip.core import distributed
from frugalclip.core.errors import TrainingError
from frugalclip.core.finite import VectorOrigin, refuse_vectors
from frugalclip.core.random import uniform
from frugalclip.core.types import ImageInput
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.retrieval import RetrievalTask, retrieval_task
from frugalclip.evaluation.zeroshot import ZeroshotTask, zeroshot_task
from frugalclip.models import Model
from frugalclip.training.sections import EvaluationConfig

_MODEL = VectorOrigin(
    "the model in training",
    "image",
    "the last checkpoint is intact; lower optimizer.lr, set optimizer.clip=1 or precision=fp32, and train "
    "into a new --out",
    TrainingError,
)


class Validator:
    """Evaluates a model on the validation set.

    Images are decoded and preprocessed once; each process takes a share of them.
    """

    def __init__(self, manifest: Manifest, config: EvaluationConfig, model: Model) -> None:
        number = min(len(manifest), config.rows)
        drawn = np.argsort(uniform(0, "watch", np.arange(len(manifest)), 1)[:, 0], kind="stable")
        chosen = manifest.take(np.sort(drawn[:number]))
        share = distributed.share_of_rows(len(chosen))
        faults: list[tuple[int, str]] = []
        rows: list[int] = []
        self.inputs: list[ImageInput] = []
        for part, inputs in model.image_inputs(
            chosen.take(np.asarray(share, dtype=np.int64)), batch=256, faults=faults
        ):
            rows.extend(row + share.start for row in part)
            self.inputs.append(inputs)
        lost = [(chosen.ids[row + share.start], cause) for row, cause in faults]
        self.faults = [fault for part in distributed.all_parts(lost) for fault in part]  # (id, cause)
        kept = [row for part in distributed.all_parts(rows) for row in part]
        self.manifest = chosen.take(np.asarray(kept, dtype=np.int64)) if len(kept) < len(chosen) else chosen
        self.retrieval: RetrievalTask = retrieval_task(self.manifest)
        self.zeroshot: ZeroshotTask = zeroshot_task(self.manifest, label_field=config.label_field)
        guessed = {"zeroshot": self.zeroshot.chance(), "retrieval": self.retrieval.chance()}
        self.chance = {  # what guessing gives, by the names of `measure`
            f"{task}/{name}": round(value, 4) for task, own in guessed.items() for name, value in own.items()
        }

    def measure(self, model: Model) -> dict[str, float]:
        """Retrieval and zero-shot metrics in percent, `<task>/<metric>`; the same on every process.

        Raises:
            TrainingError: if an image's vector is not finite.
        """
        parts = [model.encode_image(inputs) for inputs in self.inputs]
        own = torch.cat(parts) if parts else torch.zeros(0, model.dim)
        images = torch.cat(distributed.all_parts(own))
        refuse_vectors(images, self.manifest.ids, origin=_MODEL)
        metrics: dict[str, float] = {}
        for name, task in (("zeroshot", self.zeroshot), ("retrieval", self.retrieval)):
            share = distributed.share_of_rows(len(task.texts))
            texts = torch.cat(distributed.all_parts(model.encode_text(task.texts[share.start : share.stop])))
            found = task.metrics(images[torch.as_tensor(task.rows)], texts)
            metrics |= {f"{name}/{key}": round(value, 4) for key, value in found.items()}
        return metrics
