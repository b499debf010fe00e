"""Choose the patches that a view keeps: those with the most [CLS] attention in the EMA tower, or random.

Source: A-CLIP, arXiv 2212.08653, section 3.2. The score of a patch is its [CLS] attention in
the EMA tower, mean over all layers and heads. The EMA tower encodes one crop around all views, from which the
scores of each view are cut out. Blocks of 2 x 2 patches are kept whole. The released code masks nothing
by default, keeps one block more than its ratio, and its larger crop misses part of the views; here the
ratio is the share that is kept, rounded up to whole blocks. Token dropping at random is FLIP's (arXiv
2212.00794).

The objective's loss is zero: it only makes the views `VIEW@kept` that other objectives read.
"""

import math
from collections.abc import Mapping
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from frugalclip.core.errors import RecipeError
from frugalclip.objectives.base import (
    Batch,
    Dims,
    Features,
    Needs,
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    Selection,
    row_draws,
)


class Config(ObjectiveConfig):
    views: tuple[str, ...] = Field(
        ("main", "second"),
        min_length=1,
        description="image views to thin; the thinned ones are called VIEW@kept",
    )
    keep: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of the patches that a view keeps, rounded up to whole blocks; A-CLIP: 0.5",
    )
    block: int = Field(
        2, ge=1, description="side of the blocks that are kept or dropped whole, in patches; A-CLIP: 2"
    )
    choose: Literal["attentive", "random", "block"] = Field(
        "attentive",
        description="by the teacher's attention; at random; or all but one block of neighbouring patches, at "
        "a random place",
    )
    teacher: str = Field("ema", description="teacher whose attention is used")
    around: str = Field(
        "around",
        description="image view that the teacher encodes; it should contain all the others "
        "(views.NAME.contains)",
    )

    def blocks_kept(self, blocks: int) -> int:
        """Number of blocks that are kept."""
        return min(blocks, math.ceil(blocks * self.keep - 1e-9))

    @model_validator(mode="after")
    def _is_own(self) -> Self:
        if any("@" in view for view in self.views):
            raise ValueError(
                "name the views as the recipe makes them, without @; the thinned ones are called VIEW@kept"
            )
        return self


def _axis_map(start: Tensor, length: Tensor, around: Tensor, *, cells: int, around_cells: int) -> Tensor:
    """Weights that map scores from the cells of a large crop to those of a smaller one, along one axis.

    Bilinear up to the pixels of the large crop, cut, and bilinear down to the cells of the smaller one, as
    two chained resizes would do it.

    Args:
        start: (batch,) first pixel of the small crop, counted in the large one; may stick out.
        length: (batch,) pixels of the small crop.
        around: (batch,) pixels of the large crop.
        cells: cells of the small crop.
        around_cells: cells of the large crop.

    Returns:
        (batch, cells, around_cells); pixels outside the large crop weigh nothing.
    """
    place = ((torch.arange(cells, device=start.device) + 0.5) * (length / cells)[:, None] - 0.5).clamp(
        min=0
    )  # (batch, cells) in its own pixels
    low = place.floor()
    weights = torch.zeros(len(start), cells, around_cells, dtype=place.dtype, device=start.device)
    for pixel, share in (
        (low, 1 - (place - low)),
        (torch.minimum(low + 1, length[:, None] - 1), place - low),
    ):
        pixel = pixel + start[:, None]  # in pixels of the large crop
        inside = (pixel >= 0) & (pixel < around[:, None])
        source = ((pixel + 0.5) * (around_cells / around)[:, None] - 0.5).clamp(min=0)
        left = source.floor().clamp(max=around_cells - 1)
        for cell, part in (
            (left, 1 - (source - left)),
            ((left + 1).clamp(max=around_cells - 1), source - left),
        ):
            weights.scatter_add_(2, cell.long()[:, :, None], (share * part * inside)[:, :, None])
    return weights


def crop_scores(
    scores: Tensor, around: Tensor, box: Tensor, *, grid: tuple[int, int], around_grid: tuple[int, int]
) -> Tensor:
    """Map the scores of one crop's patches to the patches of another.

    Args:
        scores: (batch, patches) of the large crop, row by row.
        around: (batch, 4) its box: top, left, height, width in pixels of the image.
        box: (batch, 4) box of the small crop; outside the large one scores are zero.
        grid: rows and columns of patches of the small crop.
        around_grid: rows and columns of patches of the large crop.

    Returns:
        (batch, patches of the small crop).
    """
    plane = scores.view(len(scores), *around_grid).to(
        torch.float64 if scores.dtype == torch.float64 else torch.float32
    )
    around, box = around.to(plane.dtype), box.to(plane.dtype)
    down = _axis_map(
        box[:, 0] - around[:, 0], box[:, 2], around[:, 2], cells=grid[0], around_cells=around_grid[0]
    )
    across = _axis_map(
        box[:, 1] - around[:, 1], box[:, 3], around[:, 3], cells=grid[1], around_cells=around_grid[1]
    )
    return (down @ plane @ across.transpose(1, 2)).flatten(1)


def mirrored_scores(scores: Tensor, is_mirrored: Tensor | None, *, grid: tuple[int, int]) -> Tensor:
    """Swap left and right of (batch, patches) scores where `is_mirrored` (batch,) is true.

    None is nowhere.
    """
    if is_mirrored is None:
        return scores
    plane = scores.view(len(scores), *grid)
    return torch.where(is_mirrored[:, None, None], plane.flip(2), plane).flatten(1)


def block_scores(scores: Tensor, *, grid: tuple[int, int], block: int) -> Tensor:
    """(batch, patches) to (batch, blocks): the mean score of each block of block x block patches."""
    rows, columns = grid
    return scores.view(len(scores), rows // block, block, columns // block, block).mean(dim=(2, 4)).flatten(1)


def highest_blocks(blocks: Tensor, *, grid: tuple[int, int], block: int, number: int) -> Tensor:
    """The patches of the highest blocks.

    Args:
        blocks: (batch, blocks) scores; of equal ones the first is kept.
        grid: rows and columns of patches.
        block: patches on a side of a block.
        number: blocks to keep.

    Returns:
        (batch, number * block^2) int64 patches, ascending.
    """
    chosen = torch.sort(blocks, dim=1, descending=True, stable=True).indices[:, :number]  # (batch, number)
    columns = grid[1] // block
    row, column = chosen // columns, chosen % columns
    inside = torch.arange(block, device=blocks.device)
    patches = (
        (row[:, :, None, None] * block + inside[:, None]) * grid[1]
        + column[:, :, None, None] * block
        + inside
    )  # (batch, number, block, block)
    return patches.flatten(1).sort(dim=1).values


class AttentiveMask(Objective):
    Config = Config
    has_loss = False

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config, self.grid = config, dims.patch_grid
        rows, columns = self.grid
        if rows % config.block or columns % config.block:
            raise RecipeError(
                f"attentive_mask.block {config.block} does not divide the {rows} x {columns} patches of a "
                "view; set block: 1"
            )
        self.blocks = (rows // config.block) * (columns // config.block)
        self.number = config.blocks_kept(self.blocks)

    def needs(self) -> Needs:
        if self.config.choose != "attentive":
            return Needs()
        name = f"{self.config.teacher}:{self.config.around}"
        return Needs(teachers=frozenset({name}), attention=frozenset({name}))

    def kept_patches(self) -> dict[str, int]:
        return {f"{view}@kept": self.number * self.config.block**2 for view in self.config.views}

    def prepare(self, batch: Batch, targets: Mapping[str, Features]) -> dict[str, Selection]:
        made = {}
        for view in self.config.views:
            blocks = (
                self._attentive(batch, targets, view)
                if self.config.choose == "attentive"
                else self._drawn(batch, view)
            )
            made[f"{view}@kept"] = Selection(
                keep=highest_blocks(blocks, grid=self.grid, block=self.config.block, number=self.number)
            )
        return made

    def _attentive(self, batch: Batch, targets: Mapping[str, Features], view: str) -> Tensor:
        """(batch, blocks) attention of the teacher."""
        c = self.config
        scores = targets[c.teacher].images[c.around].attention
        assert scores is not None, "in the needs"
        side = math.isqrt(scores.shape[1])
        scores = mirrored_scores(
            scores, batch.mirrored.get(c.around), grid=(side, side)
        )  # in the orientation of the image
        scores = crop_scores(
            scores, batch.boxes[c.around], batch.boxes[view], grid=self.grid, around_grid=(side, side)
        )
        return block_scores(
            mirrored_scores(scores, batch.mirrored.get(view), grid=self.grid), grid=self.grid, block=c.block
        )

    def _drawn(self, batch: Batch, view: str) -> Tensor:
        """(batch, blocks) numbers that keep blocks at random, or all but those around a random place."""
        draws = row_draws(batch, self.blocks + 2, seed=self.dims.seed, stream=f"keep/{view}")
        if self.config.choose == "random":
            return draws[:, : self.blocks]
        rows, columns = self.grid[0] // self.config.block, self.grid[1] // self.config.block
        place = torch.arange(self.blocks, device=draws.device)
        down = (place // columns - draws[:, -2:-1] * (rows - 1)).abs()
        across = (place % columns - draws[:, -1:] * (columns - 1)).abs()
        return (
            torch.maximum(down, across) + 1e-6 * draws[:, : self.blocks]
        )  # blocks far from the centre are kept

    def forward(self, views: Features) -> ObjectiveOutput:
        kept = self.number * self.config.block**2 / (self.grid[0] * self.grid[1])
        logs = {"kept": torch.tensor(kept)}
        if self.config.choose == "attentive":
            scores = views.targets[self.config.teacher].images[self.config.around].attention
            assert scores is not None
            top = scores.topk(max(1, round(self.config.keep * scores.shape[1])), dim=1).values.sum(dim=1)
            logs["attention_on_top"] = (top / scores.sum(dim=1)).mean()  # `keep` where attention is even
        return ObjectiveOutput(views.scale * 0, logs)
