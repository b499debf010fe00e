"""Vision transformer: an image tower with dropped patches, token outputs and [CLS] attention.

Source: ViT, arXiv 2010.11929. CLIP's form (`pre_norm`, no patch bias) and timm's form (patch bias, no
`pre_norm`) are both available, since their weights are not interchangeable. Patches are dropped after the
position embedding (FLIP, arXiv 2212.00794, section 3; A-CLIP, arXiv 2212.08653, section 3.2).
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from frugalclip.core.errors import RecipeError
from frugalclip.core.types import Gates, ImageInput, TowerOutput
from frugalclip.towers.base import Ability, ImageTower, ImageTowerConfig
from frugalclip.towers.blocks import Activation, Norm
from frugalclip.towers.heads.attention_pool import AttentionPool
from frugalclip.towers.heads.facets import FacetProjectorConfig
from frugalclip.towers.sizes import TransformerConfig
from frugalclip.towers.units import HIDDEN, SCALED_HIDDEN, WHOLE, Units, layer_axes

SIZES = {  # name: (width, depth); heads are 64 wide as in CLIP, 32 below width 384
    "nano": (128, 4),
    "micro": (192, 6),
    "tiny": (192, 12),
    "small": (384, 12),
    "base": (768, 12),
    "large": (1024, 24),
}


SUPPORTS: frozenset[Ability] = frozenset({"dropped_patches", "gates"})
SUPPORTS_WITH_CLS: frozenset[Ability] = frozenset({"dropped_patches", "gates", "cls_attention"})


class VitConfig(TransformerConfig, ImageTowerConfig):
    """Settings of a vision transformer; a plain word is the name of a size."""

    SIZES = SIZES
    LATER: ClassVar[tuple[str, ...]] = (
        "norm_eps",
        "pool_heads",
        "pool_head_dim",
        "pool_neurons",
        "pool_activation",
        "projection",
        "trim",
        "facets",
    )
    kind: Literal["vit"] = "vit"
    patch: int = Field(16, gt=0, description="side of a patch in pixels")
    resolution: int = Field(224, gt=0, description="side of the image in pixels")
    pool: Literal["cls", "mean", "attention"] = Field(
        "cls", description="source of the pooled vector; SigLIP: attention (MAP)"
    )
    pre_norm: bool = Field(
        True, description="normalise before the first layer, as CLIP does and timm does not"
    )
    patch_bias: bool = Field(False, description="bias of the patch embedding; timm has one, CLIP does not")
    freeze_patch: bool = Field(
        False,
        description="keep the patch embedding at its random start, as DeCLIP and A-CLIP do (MoCo v3, section "
        "4)",
    )
    pool_heads: int = Field(0, ge=0, description="heads of attention pooling; 0: those of the first layer")
    pool_head_dim: int = Field(
        0, ge=0, description="channels of a head of attention pooling; 0: width / heads"
    )
    pool_neurons: int = Field(0, ge=0, description="neurons of attention pooling; 0: 4 * width")
    pool_activation: Activation = Field("gelu", description="activation of attention pooling")
    projection: Literal["linear", "none"] = Field(
        "linear", description="none: the pooled vector is the embedding, as in SigLIP; dim is then the width"
    )
    facets: FacetProjectorConfig | None = Field(
        None, description="FLAME: project every token, unnormalised, and average the patches"
    )
    trim: bool = Field(
        False,
        description="ignore pixels at the right and bottom that fill no patch, as SigLIP's 384 by 14 does",
    )

    @model_validator(mode="after")
    def _fits(self) -> "VitConfig":
        if self.resolution % self.patch and not self.trim:
            raise ValueError(
                f"resolution {self.resolution} is not a multiple of patch {self.patch}; choose one that is, "
                f"or set trim: true"
            )
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        side = self.resolution // self.patch
        return side, side

    @property
    def tokens(self) -> int:
        """Length of the sequence of a whole image."""
        return self.grid[0] * self.grid[1] + (self.pool == "cls")

    def forward_gflops(self, *, tokens: int) -> float:
        """Forward arithmetic for one image of which `tokens` enter the layers, in 10^9 operations."""
        facets = (
            self.facets.forward_gflops(tokens=tokens, width=self.width, dim=self.width) if self.facets else 0
        )
        return (
            facets
            + super().forward_gflops(tokens=tokens)
            + 2 * self.grid[0] * self.grid[1] * 3 * self.patch**2 * self.width * 1e-9
        )

    def build(self, *, dim: int) -> "Vit":
        """The tower of these sizes."""
        return Vit(self, dim=dim)


def resampled_positions(positions: Tensor, *, own: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Resample a position embedding for an image of another size.

    Args:
        positions: (1, prefix + patches, width); the prefix, such as [CLS], is kept.
        own: rows and columns of `positions`.
        grid: rows and columns of the result.

    Returns:
        (1, prefix + patches, width).
    """
    prefix = positions.shape[1] - own[0] * own[1]
    first, rest = positions[:, :prefix], positions[:, prefix:]
    plane = rest.view(1, *own, -1).permute(0, 3, 1, 2)  # (1, width, rows, columns)
    plane = nn.functional.interpolate(
        plane.float(), size=grid, mode="bicubic", antialias=True, align_corners=False
    )
    return torch.cat([first, plane.flatten(2).transpose(1, 2).to(first.dtype)], dim=1)


class Vit(ImageTower):
    """Vision transformer."""

    advice = "set model.image.pool=cls"

    def __init__(self, config: VitConfig, *, dim: int) -> None:
        super().__init__()
        self.config = config
        width, patches = config.width, config.grid[0] * config.grid[1]
        self.patch = nn.Linear(
            3 * config.patch**2, width, bias=config.patch_bias
        )  # a convolution whose stride is its kernel, as one product
        self.has_cls = config.pool == "cls"
        self.supports = SUPPORTS_WITH_CLS if self.has_cls else SUPPORTS
        self.description = f"a tower with pool: {config.pool}"
        self.cls = nn.Parameter(torch.empty(1, 1, width)) if self.has_cls else None
        self.positions = nn.Parameter(torch.empty(1, patches + self.has_cls, width))
        self.norm_before = Norm(width, eps=config.norm_eps) if config.pre_norm else None
        self.layers = config.build_layers()
        self.norm_after = Norm(width, eps=config.norm_eps) if config.facets is None else None
        self.projector = config.facets.build(width=width, dim=dim) if config.facets is not None else None
        self.pool = self._pool() if config.pool == "attention" else None
        if config.projection == "none" and width != dim:
            raise RecipeError(
                f"model.image.projection is none, but its width is {width} and model.dim is {dim}; "
                f"make them equal."
            )
        self.project = (
            nn.Linear(width, dim, bias=False)
            if config.projection == "linear" and config.facets is None
            else None
        )
        self.patch.requires_grad_(not config.freeze_patch)

    def _pool(self) -> AttentionPool:
        c = self.config
        return AttentionPool(
            c.width,
            heads=c.pool_heads or c.heads[0],
            head_dim=c.pool_head_dim,
            neurons=c.pool_neurons,
            activation=c.pool_activation,
            norm_eps=c.norm_eps,
        )

    @property
    def units(self) -> Units:
        """The units that may be cut. Heads and neurons of attention pooling stay, its channels do not."""
        axes = dict(layer_axes(self.config)) | {
            "patch.weight": (SCALED_HIDDEN, WHOLE),
            "positions": (WHOLE, WHOLE, SCALED_HIDDEN),
        }
        if self.norm_after is not None:
            axes |= {"norm_after.weight": (HIDDEN,), "norm_after.bias": (HIDDEN,)}
        if self.patch.bias is not None:
            axes["patch.bias"] = (SCALED_HIDDEN,)
        if self.cls is not None:
            axes["cls"] = (WHOLE, WHOLE, SCALED_HIDDEN)
        if self.norm_before is not None:
            axes |= {"norm_before.weight": (HIDDEN,), "norm_before.bias": (HIDDEN,)}
        if self.pool is not None:
            axes |= {f"pool.{name}": own for name, own in self.pool.axes().items()}
        implied: dict[str, Tensor] = {}
        if self.projector is not None:
            axes |= {f"projector.{name}": own for name, own in self.projector.axes().items()}
        else:
            axes["project.weight"] = (WHOLE, HIDDEN)
            if self.project is None:  # the channels are the embedding, of which some would be left
                implied["project.weight"] = torch.eye(self.config.width, device=self.positions.device)
        shapes = {name: tuple(p.shape) for name, p in [*self.named_parameters(), *implied.items()]}
        return Units(self.config, axes, shapes, implied=implied, pinned=self._pinned())

    def _pinned(self) -> dict[str, Any]:
        """Settings that would follow the width or the heads, and stay when units are cut."""
        if self.pool is None:
            return {"projection": "linear"}
        sizes = {"pool_heads": self.pool.heads, "pool_head_dim": self.pool.head_dim}
        return {"projection": "linear", **sizes, "pool_neurons": self.pool.feed_forward.enter.out_features}

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights (SLIP `models.py`, CLIP)."""
        width = self.config.width
        nn.init.normal_(self.patch.weight, std=(3 * self.config.patch**2) ** -0.5, generator=generator)
        if self.patch.bias is not None:
            nn.init.zeros_(self.patch.bias)
        if self.cls is not None:
            nn.init.normal_(self.cls, std=width**-0.5, generator=generator)
        nn.init.normal_(self.positions, std=width**-0.5, generator=generator)
        self.layers.reset(generator)
        if self.pool is not None:
            self.pool.reset(generator)
        if self.project is not None:
            nn.init.normal_(self.project.weight, std=width**-0.5, generator=generator)
        if self.projector is not None:
            self.projector.reset(generator)

    def forward(
        self,
        images: ImageInput,
        *,
        keep: Tensor | None = None,
        with_tokens: bool = False,
        with_attention: bool = False,
        gates: Gates | None = None,
    ) -> TowerOutput:
        """Encode images.

        Args:
            images: (batch, 3, height, width of the image), normalised; sides are multiples of the patch. For
                another size than the tower's own, the position embedding is interpolated.
            keep: (batch, kept) int64 patches to keep, in any order; None keeps all.
            with_tokens: also return token outputs.
            with_attention: also return the [CLS] attention; needs `pool: cls`.
            gates: multipliers of heads, neurons, channels and layers.

        Raises:
            RecipeError: if attention is requested and the tower has no [CLS].

        Returns:
            TowerOutput; tokens are (batch, [1 +] kept, width) after the last normalisation, [CLS] first.
        """
        assert isinstance(images, Tensor), "only a frozen backbone has cached features"
        self.check_forward(keep=keep, with_attention=with_attention, gates=gates)
        x, grid = self._patches(images)
        positions = self._positions(grid)
        x = x + positions[:, self.has_cls :].to(x.dtype)
        if keep is not None:
            x = torch.gather(x, 1, keep[:, :, None].expand(-1, -1, x.shape[2]))  # (batch, kept, width)
        if self.cls is not None:
            first = (self.cls + positions[:, :1]).to(x.dtype).expand(x.shape[0], -1, -1)
            x = torch.cat([first, x], dim=1)
        hidden = None if gates is None else gates.hidden
        x = x if hidden is None else x * hidden.to(x.dtype)
        x = x if self.norm_before is None else self.norm_before(x, hidden)
        x, attention = self.layers(x, gates=gates, with_attention=with_attention)
        return self._read(x, attention, with_tokens=with_tokens, hidden=hidden)

    def _patches(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        side = self.config.patch
        batch, channels, height, width = images.shape
        rows, columns = height // side, width // side
        if self.config.trim:
            images = images[:, :, : rows * side, : columns * side].contiguous()
        pieces = images.view(batch, channels, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
        return self.patch(pieces.reshape(batch, rows * columns, channels * side * side)), (rows, columns)

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """(1, [1 +] patches, width) position embedding, resampled where the image has another size."""
        if grid == self.config.grid:
            return self.positions
        return resampled_positions(self.positions, own=self.config.grid, grid=grid)

    def _read(
        self, x: Tensor, attention: Tensor | None, *, with_tokens: bool, hidden: Tensor | None
    ) -> TowerOutput:
        if self.projector is not None:
            patches = x[:, self.has_cls :]
            return TowerOutput(
                x if with_tokens else None, patches.mean(dim=1), self.projector(patches), attention
            )
        assert self.norm_after is not None
        if self.has_cls and not with_tokens:
            pooled = self.norm_after(x[:, 0], hidden)  # normalising one token is enough
            return TowerOutput(
                tokens=None, pooled=pooled, embedding=self._embedding(pooled), attention=attention
            )
        tokens = self.norm_after(x, hidden)
        pooled = tokens[:, 0] if self.has_cls else self._pooled(tokens, hidden)
        return TowerOutput(
            tokens=tokens if with_tokens else None,
            pooled=pooled,
            embedding=self._embedding(pooled),
            attention=attention,
        )

    def _embedding(self, pooled: Tensor) -> Tensor:
        return pooled if self.project is None else self.project(pooled)

    def _pooled(self, tokens: Tensor, hidden: Tensor | None) -> Tensor:
        return tokens.mean(dim=1) if self.pool is None else self.pool(tokens, hidden)
