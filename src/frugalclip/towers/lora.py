"""Low-rank additions to the linear maps of a backbone, and how to merge them.

Source: LoRA, arXiv 2106.09685, section 4.1: W x + (alpha / rank) B A x with A drawn and B zero, so that training starts at the backbone as it was.
"""

import math
from collections.abc import Iterator
from fnmatch import fnmatch

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from frugalclip.core.config import Settings
from frugalclip.core.errors import RecipeError, known_names


class LoraConfig(Settings):
    """Settings of low-rank additions."""

    rank: int = Field(8, ge=1, description="rank of an addition")
    alpha: float = Field(16.0, gt=0, description="an addition is multiplied by alpha / rank")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="share of the inputs of an addition that a step leaves out"
    )
    targets: tuple[str, ...] = Field(
        ("*",), description="patterns of names of linear maps, such as ['*.q_proj', '*.v_proj']"
    )


class LoraLinear(nn.Module):
    """A linear map that stays as it is, and a low-rank addition that is trained."""

    def __init__(
        self, base: nn.Linear, config: LoraConfig, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.base, self.config = base, config
        kind = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.down = nn.Parameter(torch.empty(config.rank, base.in_features, **kind))
        self.up = nn.Parameter(torch.zeros(base.out_features, config.rank, **kind))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5), generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        c = self.config
        low = F.linear(F.dropout(x, c.dropout, self.training), self.down)  # (..., rank)
        return self.base(x) + F.linear(low, self.up) * (c.alpha / c.rank)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The plain linear map that computes the same."""
        self.base.weight += (self.config.alpha / self.config.rank) * (self.up @ self.down)
        return self.base


def _children(module: nn.Module, kind: type[nn.Module]) -> Iterator[tuple[str, nn.Module, str]]:
    """(dotted name, parent, name in it) of every part of a kind."""
    for name, part in list(module.named_modules()):
        for inner, child in list(part.named_children()):
            if isinstance(child, kind):
                yield f"{name}.{inner}".lstrip("."), part, inner


def add_lora(module: nn.Module, config: LoraConfig, *, generator: torch.Generator | None = None) -> list[str]:
    """Give every linear map that the settings name an addition, in place.

    Args:
        module: the backbone.
        config: settings.
        generator: draws the additions; None: torch's own.

    Returns:
        Their names.

    Raises:
        RecipeError: for a pattern that matches none.
    """
    found = [(name, parent, inner) for name, parent, inner in _children(module, nn.Linear) if inner != "base"]
    for pattern in config.targets:
        if not any(fnmatch(name, pattern) for name, _, _ in found):
            raise RecipeError(
                f"lora.targets names '{pattern}', which matches no linear map; {known_names(pattern, [name for name, _, _ in found])}"
            )
    chosen = [one for one in found if any(fnmatch(one[0], pattern) for pattern in config.targets)]
    for _, parent, inner in chosen:
        base = parent.get_submodule(inner)
        assert isinstance(base, nn.Linear)
        setattr(parent, inner, LoraLinear(base, config, generator=generator))
    return [name for name, _, _ in chosen]


def merge_lora(module: nn.Module) -> nn.Module:
    """The module with every addition merged into its linear map, in place: what is exported."""
    for _, parent, inner in list(_children(module, LoraLinear)):
        part = parent.get_submodule(inner)
        assert isinstance(part, LoraLinear)
        setattr(parent, inner, part.merged())
    return module
