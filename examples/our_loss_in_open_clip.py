"""An objective of ours as the loss of open_clip's training loop. Random weights; nothing is downloaded."""

import tempfile
from pathlib import Path

import open_clip
import torch
from PIL import Image
from shapes import draw_folder
from torch import Tensor, nn

from frugalclip.core.types import Dims, Features, TowerOutput
from frugalclip.objectives import contrastive
from frugalclip.objectives.base import Objective

CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
DIMS = Dims(64, 64, 64, 49408, 16, (4, 4), batch=32)


class OurLoss(nn.Module):
    """Takes what open_clip's model returns, as open_clip's own losses do."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(
        self, image_features: Tensor, text_features: Tensor, logit_scale: Tensor, output_dict: bool = False
    ) -> dict[str, Tensor] | Tensor:
        images = {"main": TowerOutput(None, image_features, image_features)}
        texts = {"caption": TowerOutput(None, text_features, text_features)}
        loss = self.objective(Features(images, texts, logit_scale)).loss
        return {"loss": loss} if output_dict else loss


def gradients(model: nn.Module, loss: Tensor) -> list[Tensor]:
    """The gradient of every parameter that the loss reaches."""
    return list(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))


def main(folder: Path) -> None:
    # 1. Data: pictures with .txt files beside them, as open_clip's tensors.
    paths = draw_folder(folder, 32, seed=1)
    torch.manual_seed(0)
    model = open_clip.CLIP(**CONFIG, output_dict=True)
    prepare = open_clip.image_transform(32, is_train=False)
    images = torch.stack([prepare(Image.open(path)) for path in paths])
    texts = open_clip.SimpleTokenizer(context_length=16)([p.with_suffix(".txt").read_text() for p in paths])

    # 2. Train: open_clip's step, with our loss in the place of its own.
    ours = OurLoss(contrastive.Contrastive(contrastive.Config(), DIMS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    first = last = torch.zeros(())
    for step in range(10):
        optimizer.zero_grad()
        last = ours(**model(images, texts), output_dict=True)["loss"]
        first = last.detach() if step == 0 else first
        last.backward()
        optimizer.step()
    print("trained 10 steps")
    print(f"the loss falls: {bool(last < first)}")

    # 3. With open_clip's own loss in its place, the gradients are the same.
    output = model(images, texts)
    theirs = gradients(model, open_clip.ClipLoss()(**output))
    own = gradients(model, ours(**model(images, texts)))
    apart = max((a - b).abs().max().item() for a, b in zip(theirs, own, strict=True))
    print(f"gradients equal those of open_clip's loss: {apart < 1e-6}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
