"""The image tower against slow references: dropped tokens, [CLS] attention, gates, irregular sizes."""

import pytest
import torch
from torch import Tensor

from frugalclip.core.random import generator
from frugalclip.core.types import Gates
from frugalclip.towers.vit import Vit, VitConfig


def small_vit(**settings: object) -> Vit:
    config = VitConfig.model_validate(
        {"width": 64, "depth": 3, "head_dim": 16, "patch": 8, "resolution": 32} | settings
    )
    tower = Vit(config, dim=24).double()
    tower.reset(generator(0, "test"))
    return tower.eval()


def pixels(batch: int = 2, side: int = 32) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_patch_product_is_a_convolution():
    tower = small_vit(patch_bias=True)
    kernel = tower.patch.weight.view(64, 3, 8, 8)
    expected = (
        torch.nn.functional.conv2d(pixels(), kernel, tower.patch.bias, stride=8).flatten(2).transpose(1, 2)
    )
    found, grid = tower._patches(pixels())
    assert grid == (4, 4)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("pool", ["cls", "mean", "attention"])
def test_keeping_all_tokens_in_any_order_changes_nothing(pool: str):
    tower = small_vit(pool=pool)
    shuffled = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(i)) for i in range(2)])
    torch.testing.assert_close(tower(pixels(), keep=shuffled).embedding, tower(pixels()).embedding)


def test_dropped_patches_have_no_influence():
    tower, keep = small_vit(), torch.tensor([[0, 5, 10], [3, 4, 15]])
    images = pixels().requires_grad_()
    tower(images, keep=keep).embedding.sum().backward()
    assert images.grad is not None
    used = images.grad.abs().sum(1).view(2, 4, 8, 4, 8).sum((2, 4)).flatten(1) > 0  # (batch, patches)
    assert [row.nonzero().flatten().tolist() for row in used] == keep.tolist()


def test_cls_attention_is_the_mean_over_layers_and_heads_of_the_full_softmax():
    tower, seen = small_vit(), []

    def full(module: torch.nn.Module, inputs: tuple[Tensor, ...], _: object) -> None:
        x = inputs[0]
        q, k, _ = module.qkv(x).view(2, 17, 3, 4, 16).permute(2, 0, 3, 1, 4)  # pyright: ignore
        seen.append(
            torch.softmax(q @ k.transpose(-2, -1) / 4, dim=-1)[:, :, 0, 1:]
        )  # (batch, heads, patches)

    for block in tower.layers.blocks:
        block.attention.register_forward_hook(full)  # pyright: ignore
    attention = tower(pixels(), with_attention=True).attention
    torch.testing.assert_close(attention.double(), torch.stack(seen).mean((0, 2)), rtol=1e-5, atol=1e-7)
    assert (attention.sum(1) < 1).all(), "the [CLS] column is left out"


def test_open_gates_change_nothing_and_binary_gates_equal_the_sliced_tower():
    tower = small_vit()
    ones = Gates(
        hidden=torch.ones(64),
        heads=(torch.ones(4),) * 3,
        neurons=(torch.ones(256),) * 3,
        layers=torch.ones(3, 2),
    )
    assert torch.equal(tower(pixels(), gates=ones).embedding, tower(pixels()).embedding)
    assert all(map(torch.equal, gradients(tower, gates=ones), gradients(tower, gates=None)))
    heads = (torch.tensor([1.0, 0, 1, 1]), torch.ones(4), torch.ones(4))
    neurons = (torch.ones(256), (torch.arange(256) < 100).float(), torch.ones(256))
    gated = tower(pixels(), gates=Gates(heads=heads, neurons=neurons)).embedding
    sliced = small_vit(heads=(3, 4, 4), neurons=(256, 100, 256))
    sliced.load_state_dict(sliced_weights(tower))
    torch.testing.assert_close(sliced(pixels()).embedding, gated)


def gradients(tower: Vit, *, gates: Gates | None) -> list[Tensor]:
    tower.zero_grad()
    tower(pixels(), gates=gates).embedding.square().sum().backward()
    return [p.grad.clone() for p in tower.parameters() if p.grad is not None]


def sliced_weights(tower: Vit) -> dict[str, Tensor]:
    state = dict(tower.state_dict())
    prefix, kept = "layers.blocks.0.attention", torch.tensor([0, 2, 3])
    state[f"{prefix}.qkv.weight"] = state[f"{prefix}.qkv.weight"].view(3, 4, 16, 64)[:, kept].reshape(-1, 64)
    state[f"{prefix}.qkv.bias"] = state[f"{prefix}.qkv.bias"].view(3, 4, 16)[:, kept].reshape(-1)
    state[f"{prefix}.out.weight"] = state[f"{prefix}.out.weight"].view(64, 4, 16)[:, kept].reshape(64, -1)
    prefix = "layers.blocks.1.feed_forward"
    state[f"{prefix}.enter.weight"], state[f"{prefix}.enter.bias"] = (
        state[f"{prefix}.enter.weight"][:100],
        state[f"{prefix}.enter.bias"][:100],
    )
    state[f"{prefix}.leave.weight"] = state[f"{prefix}.leave.weight"][:, :100]
    return state


def test_a_closed_channel_is_out_of_the_normalisation():
    tower, gate = small_vit(), torch.ones(64)
    gate[::2] = 0
    assert tower.norm_after is not None
    x = torch.randn(5, 64, dtype=torch.float64) * gate  # as in the residual stream of a gated tower
    normalised = tower.norm_after(x, gate)
    assert (normalised[:, ::2] == 0).all()
    torch.testing.assert_close(
        normalised[:, 1::2].mean(1), torch.zeros(5, dtype=torch.float64), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        normalised[:, 1::2].var(1, unbiased=False), torch.ones(5, dtype=torch.float64), atol=1e-3, rtol=0
    )


def test_another_resolution_interpolates_positions():
    tower = small_vit()
    assert tower(pixels(side=16)).embedding.shape == (2, 24)
    assert tower._positions((2, 2)).shape == (1, 5, 64)
    torch.testing.assert_close(tower._positions((4, 4)), tower.positions)


def test_tokens_are_given_where_asked_for_and_pool_to_the_same():
    tower = small_vit()
    encoded = tower(pixels(), with_tokens=True)
    assert encoded.tokens is not None and encoded.tokens.shape == (2, 17, 64)
    torch.testing.assert_close(encoded.tokens[:, 0], tower(pixels()).pooled)
    assert tower(pixels()).tokens is None


def test_plain_and_fused_attention_agree():
    from frugalclip.towers.blocks import attend

    q, k, v = torch.randn(3, 2, 4, 17, 16, generator=torch.Generator().manual_seed(0))
    mask = torch.full((17, 17), float("-inf")).triu(1)
    for m in (None, mask):
        exact = attend(q, k, v, mask=m)  # float32: the fused kernel
        plain = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask=m)  # bfloat16: products and a softmax
        torch.testing.assert_close(plain.float(), exact, rtol=0.05, atol=0.03)


@pytest.mark.parametrize(
    ("settings", "output"),
    [
        ({"size": "tinny"}, "tinny"),
        ({"width": 65}, "head_dim"),
        ({"heads": (1,)}, "expected depth"),
        ({"resolution": 30}, "multiple of patch"),
    ],
)
def test_wrong_settings_say_what_to_set(settings: dict[str, object], output: str):
    with pytest.raises(ValueError, match=output):
        VitConfig.model_validate(
            {"width": 64, "depth": 3, "head_dim": 16, "patch": 8, "resolution": 32} | settings
        )


def test_named_sizes_span_one_million_to_vit_large():
    counts = {}
    for size in ("nano", "large"):
        with torch.device("meta"):
            tower = Vit(VitConfig.model_validate({"size": size}), dim=128)
        counts[size] = sum(p.numel() for p in tower.parameters())
    assert 0.8e6 < counts["nano"] < 1.2e6
    assert 300e6 < counts["large"] < 310e6
