"""Fused attention against scores written out, in float32 and under bfloat16 autocast."""

import pytest
import torch

from speechssl.errors import UserError
from speechssl.nn.attention import SelfAttention
from speechssl.nn.padding import key_mask

LENGTHS = torch.tensor([5, 7, 1])


def written_out(attention: SelfAttention, x: torch.Tensor, keys: torch.Tensor | None) -> torch.Tensor:
    outputs = []
    for b in range(len(x)):
        query, key, value = attention.qkv(x[b]).chunk(3, dim=1)
        heads = []
        size = query.shape[1] // attention.num_heads
        for h in range(attention.num_heads):
            part = slice(h * size, (h + 1) * size)
            scores = query[:, part] @ key[:, part].T / size**0.5
            if keys is not None:
                scores[:, ~keys[b]] = -torch.inf
            heads.append(scores.softmax(1) @ value[:, part])
        outputs.append(attention.output(torch.cat(heads, dim=1)))
    return torch.stack(outputs)


@pytest.mark.parametrize("masked", [False, True])
def test_values_and_gradients(masked: bool) -> None:
    torch.manual_seed(0)
    attention = SelfAttention(12, 3)
    x = torch.randn(3, 7, 12, requires_grad=True)
    keys = key_mask(LENGTHS, 7, look=True) if masked else None
    fast, slow = attention(x, keys), written_out(attention, x, keys)
    torch.testing.assert_close(fast, slow)
    direction = torch.randn_like(fast)
    gradients = [torch.autograd.grad((y * direction).sum(), [x, attention.qkv.weight]) for y in (fast, slow)]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_bfloat16_autocast_is_close_and_keeps_its_dtype() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(16, 2)
    x = torch.randn(2, 9, 16)
    with torch.autocast("cpu", torch.bfloat16):
        low = attention(x, key_mask(torch.tensor([9, 4]), 9, look=True))
    assert low.dtype == torch.bfloat16
    exact = attention(x, key_mask(torch.tensor([9, 4]), 9, look=True))
    torch.testing.assert_close(low.float(), exact, rtol=0.05, atol=0.02)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(UserError, match="hidden_size 10 must be a multiple"):
        SelfAttention(10, 3)
