"""Long convolutions: both ways agree, in values and gradients, and each is chosen where it should be."""

import pytest
import torch
from torch.nn import functional as F

from speechssl.nn.long_convolution import _best_size, _sizes, by_spectra, convolve


def direct(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int) -> torch.Tensor:
    return F.conv1d(x.mT, weight, bias, padding=weight.shape[2] // 2, groups=groups)[..., : x.shape[1]].mT


@pytest.mark.parametrize(("N", "taps"), [(96, 128), (8, 128), (300, 128), (129, 128), (33, 16), (20, 5), (1, 128)])
@pytest.mark.parametrize("which", [0, -1], ids=["whole", "blocks"])
def test_spectra_give_the_convolution(N: int, taps: int, which: int) -> None:
    generator = torch.Generator().manual_seed(N)
    x = torch.randn(3, N, 24, generator=generator, requires_grad=True)
    weight = torch.randn(24, 6, taps, generator=generator, requires_grad=True)
    bias = torch.randn(24, generator=generator, requires_grad=True)
    upstream = torch.randn(3, N, 24, generator=generator)
    ours, theirs = by_spectra(x, weight, bias, 4, _sizes(N, taps)[which]), direct(x, weight, bias, 4)
    assert torch.allclose(ours, theirs, atol=1e-4)
    gradients = [torch.autograd.grad((out * upstream).sum(), (x, weight, bias)) for out in (ours, theirs)]
    for found, expected in zip(*gradients, strict=True):
        assert torch.allclose(found, expected, atol=2e-4 * float(expected.abs().max() + 1))


def test_an_output_sees_half_of_the_taps_on_each_side() -> None:
    x = torch.zeros(1, 21, 1)
    x[0, 10] = 1.0
    weight = torch.arange(1.0, 9.0).view(1, 1, 8)
    for size in (None, 16, 32):
        given = (x, weight, torch.zeros(1), 1)
        out = (convolve(*given) if size is None else by_spectra(*given, size))[0, :, 0]
        expected = torch.zeros(21)
        expected[7:15] = weight.flatten().flip(0)
        assert torch.allclose(out, expected, atol=1e-5)


def test_many_narrow_clips_take_spectra_long_ones_in_blocks_and_few_wide_ones_neither() -> None:
    narrow, wide = torch.empty(192, 12, 128), torch.empty(768, 48, 128)
    assert _best_size(torch.empty(16, 96, 192), narrow) == 224
    assert _best_size(torch.empty(1, 496, 768), wide) is None
    assert _best_size(torch.empty(2, 496, 768), wide) == 256
    assert _best_size(torch.empty(16, 96, 192, device="meta"), narrow) is None


def test_autocast_keeps_spectra_in_float32() -> None:
    x, weight = torch.randn(16, 96, 192), torch.randn(192, 12, 128)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = convolve(x, weight, torch.zeros(192), 16)
    assert out.dtype == torch.float32
    assert torch.allclose(out, direct(x, weight, torch.zeros(192), 16), atol=1e-3)
