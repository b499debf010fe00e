"""One of several processes: run our objectives on the rows of one rank. Started by families/distributed.py.

Arguments: arrays, file to meet at, rank, processes, file to write.
"""

import sys

import numpy as np
import torch
import torch.distributed as dist

from frugalclip.core.types import Dims, Features, TowerOutput
from frugalclip.objectives import contrastive, sigmoid, simclr
from frugalclip.objectives.base import Objective

SIGMOID_BIAS = -10.0  # of the arrays; not among them


def gradients(
    objective: Objective, images: np.ndarray, texts: np.ndarray, scale: np.ndarray
) -> dict[str, np.ndarray]:
    """Loss of this rank and its gradients at its own rows and at the scale."""
    image, text, factor = (torch.from_numpy(np.array(x)).requires_grad_() for x in (images, texts, scale))
    views = Features(
        images={"main": TowerOutput(None, image, image)},
        texts={"caption": TowerOutput(None, text, text)},
        scale=factor,
    )
    loss = objective(views).loss
    loss.backward()
    assert image.grad is not None
    assert text.grad is not None
    assert factor.grad is not None
    return {
        "loss": loss.detach().numpy(),
        "g1": image.grad.numpy(),
        "g2": text.grad.numpy(),
        "gscale": factor.grad.numpy(),
    }


def of_two_views(first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    """Loss of SimCLR without a head on this rank, and its gradients at its own rows."""
    views = [torch.from_numpy(np.array(x)).requires_grad_() for x in (first, second)]
    dims = Dims(
        image_width=first.shape[1],
        text_width=1,
        embedding=1,
        vocabulary=8,
        context=8,
        patch_grid=(1, 1),
        batch=len(first),
    )
    objective = simclr.SimClr(simclr.Config(hidden=2, out=2), dims)
    objective.head = torch.nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    names = (objective.config.first, objective.config.second)
    images = {name: TowerOutput(None, view, view) for name, view in zip(names, views, strict=True)}
    loss = objective(Features(images=images, texts={}, scale=torch.ones(()))).loss
    loss.backward()
    gradients = [view.grad.numpy() for view in views if view.grad is not None]
    return {"loss": loss.detach().numpy(), "g1": gradients[0], "g2": gradients[1]}


def main(path: str, meeting: str, rank: int, processes: int, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes)
    a = np.load(path, allow_pickle=False)
    batch, dim = a["image_embed"].shape[1:]
    dims = Dims(
        image_width=dim,
        text_width=dim,
        embedding=dim,
        vocabulary=8,
        context=8,
        patch_grid=(1, 1),
        batch=batch * processes,
    )
    objectives: dict[str, Objective] = {
        "contrastive": contrastive.Contrastive(contrastive.Config(), dims),
        "sigmoid": sigmoid.Sigmoid(sigmoid.Config(bias=SIGMOID_BIAS), dims),
    }
    found = {
        name: gradients(objective, a["image_embed"][rank], a["text_embed"][rank], a["logit_scale"])
        for name, objective in objectives.items()
    }
    found["simclr"] = of_two_views(a["aug1"][rank], a["aug2"][rank])
    np.savez(
        out,
        allow_pickle=False,
        **{f"{name}__{part}": value for name, parts in found.items() for part, value in parts.items()},
    )
    dist.barrier()  # no thread of gloo may hold tensors when Python ends
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
