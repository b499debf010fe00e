"""Low-rank additions to the linear layers of a backbone.

Source: LoRA, arXiv 2106.09685, section 4.1: W x + (alpha / rank) B A x, where A is drawn and B is zero, so
that training starts at the backbone as it is.
"""

import copy
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
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the input of an addition")
    targets: tuple[str, ...] = Field(
        ("*",), description="patterns of names of linear layers, such as ['*.q_proj', '*.v_proj']"
    )


class LoraLinear(nn.Module):
    """A linear layer that is frozen, and a low-rank addition that is trained."""

    def __init__(
        self, base: nn.Linear, config: LoraConfig, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.base, self.config = base, config
        kind = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.down = nn.Parameter(torch.empty(config.rank, base.in_features, **kind))
        self.up = nn.Parameter(torch.zeros(base.out_features, config.rank, **kind))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5), generator=generator)

    @property
    def bias(self) -> Tensor | None:
        """(out,) of the frozen layer."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return self.base(x) + self._addition(x)

    def with_bias(self, x: Tensor, bias: Tensor) -> Tensor:
        """(..., in) to (..., out), with another bias (out,) than the frozen layer's; see `blocks.Linear`."""
        return F.linear(x, self.base.weight, bias) + self._addition(x)

    def _addition(self, x: Tensor) -> Tensor:
        c = self.config
        low = F.linear(F.dropout(x, c.dropout, self.training), self.down)  # (..., rank)
        return F.linear(low, self.up) * (c.alpha / c.rank)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear layer that computes the same."""
        self.base.weight += self.up @ self.down * (self.config.alpha / self.config.rank)
        return self.base


def merge_lora(module: nn.Module) -> nn.Module:
    """A copy of a module whose low-rank additions are part of the weights.

    The module itself where it has none.
    """
    if not any(isinstance(one, LoraLinear) for one in module.modules()):
        return module
    merged = copy.deepcopy(module)
    for parent in list(merged.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLinear):
                setattr(parent, name, child.merged())
    return merged


def _linear_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """(dotted name, parent, name in it) of every linear layer that has no addition yet."""
    for name, parent in list(module.named_modules()):
        for inner, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and inner != "base":
                yield f"{name}.{inner}".lstrip("."), parent, inner


def add_lora(module: nn.Module, config: LoraConfig, *, generator: torch.Generator | None = None) -> list[str]:
    """Add low-rank additions to the linear layers that the settings name, in place.

    Args:
        module: the backbone.
        config: rank, patterns of names and the rest.
        generator: draws the additions; None: torch's own.

    Returns:
        Names of the layers with an addition.

    Raises:
        RecipeError: for a pattern that matches no layer.
    """
    found = list(_linear_layers(module))
    for pattern in config.targets:
        if not any(fnmatch(name, pattern) for name, _, _ in found):
            raise RecipeError(
                f"lora.targets names '{pattern}', which matches no linear layer; "
                f"{known_names(pattern, [name for name, _, _ in found])}"
            )
    chosen = [one for one in found if any(fnmatch(one[0], pattern) for pattern in config.targets)]
    for _, parent, inner in chosen:
        base = parent.get_submodule(inner)
        assert isinstance(base, nn.Linear)
        setattr(parent, inner, LoraLinear(base, config, generator=generator))
    return [name for name, _, _ in chosen]
