"""The post-norm layer against PyTorch's own."""

import torch
from torch import nn

from speechssl.nn.padding import lengths_to_mask
from speechssl.nn.transformer import PostNormLayer, PreNormLayer


def test_against_torch() -> None:
    torch.manual_seed(0)
    ours = PostNormLayer(12, 3, 20, layer_norm_eps=1e-12)
    peer = nn.TransformerEncoderLayer(12, 3, 20, 0.0, "gelu", layer_norm_eps=1e-12, batch_first=True)
    pairs = {
        "self_attn.in_proj_weight": ours.attention.qkv.weight,
        "self_attn.in_proj_bias": ours.attention.qkv.bias,
        "self_attn.out_proj.weight": ours.attention.output.weight,
        "self_attn.out_proj.bias": ours.attention.output.bias,
        "linear1.weight": ours.expand.weight,
        "linear1.bias": ours.expand.bias,
        "linear2.weight": ours.contract.weight,
        "linear2.bias": ours.contract.bias,
        "norm1.weight": ours.attention_norm.weight,
        "norm1.bias": ours.attention_norm.bias,
        "norm2.weight": ours.output_norm.weight,
        "norm2.bias": ours.output_norm.bias,
    }
    peer.load_state_dict(pairs)
    x, keys = torch.randn(2, 6, 12), lengths_to_mask(torch.tensor([6, 4]), 6)
    torch.testing.assert_close(ours(x, keys), peer(x, src_key_padding_mask=~keys))
    torch.testing.assert_close(ours(x), peer(x))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    layer = PostNormLayer(8, 2, 16, dropout=0.5)
    x = torch.randn(1, 5, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_pre_norm_equals_torch() -> None:
    torch.manual_seed(0)
    ours = PreNormLayer(16, 2, 64, layer_norm_eps=1e-6).eval()
    theirs = torch.nn.TransformerEncoderLayer(
        16, 2, 64, activation="gelu", layer_norm_eps=1e-6, norm_first=True, batch_first=True
    ).eval()
    names = {
        "self_attn.in_proj_weight": "attention.qkv.weight",
        "self_attn.in_proj_bias": "attention.qkv.bias",
        "self_attn.out_proj.": "attention.output.",
        "norm1.": "attention_norm.",
        "norm2.": "output_norm.",
        "linear1.": "expand.",
        "linear2.": "contract.",
    }
    state = {}
    for name in theirs.state_dict():
        old = next(old for old in names if name.startswith(old))
        state[name] = ours.state_dict()[name.replace(old, names[old])]
    theirs.load_state_dict(state)
    x = torch.randn(3, 7, 16)
    keys = torch.arange(7) < torch.tensor([7, 4, 1])[:, None]
    expected = theirs(x, src_key_padding_mask=~keys)
    found = ours(x, keys)
    for row, length in enumerate((7, 4, 1)):
        torch.testing.assert_close(found[row, :length], expected[row, :length], atol=1e-5, rtol=1e-5)
