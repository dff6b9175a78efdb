"""Reference files and the reference implementation, where they are at hand."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import nn

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="session", params=["pruned", "whole"])
def tera_golden(request: pytest.FixtureRequest) -> dict:
    """Tensors made with s3prl: the pruned copy beside the tests, and the whole file where it is given."""
    if request.param == "pruned":
        waveforms = torch.load(FIXTURES / "tera_features.pt", weights_only=True)
        return torch.load(FIXTURES / "tera_golden.pt", weights_only=True) | waveforms
    folder = os.environ.get("SPEECHSSL_GOLDEN")
    if not folder:
        pytest.skip("SPEECHSSL_GOLDEN does not name the folder with the whole reference files")
    return torch.load(Path(folder) / "tera_tiny.pt", weights_only=True)


@pytest.fixture(scope="session")
def mockingjay() -> ModuleType:
    """Return s3prl's module with the model that TERA shares."""
    return pytest.importorskip(
        "s3prl.upstream.mockingjay.model", reason="s3prl cannot be imported", exc_type=ImportError
    )


@pytest.fixture(scope="session", params=["patch", "frame"])
def ssast_golden(request: pytest.FixtureRequest) -> dict:
    """Weights, inputs and outputs of a small model, made with the authors' code."""
    return torch.load(FIXTURES / f"ssast_{request.param}.pt", weights_only=True)


class Block(nn.Module):
    """A pre-norm Transformer block with attention written out, and the parameter names of timm 0.4.5."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, N, D = x.shape
        q, k, v = self.attn["qkv"](self.norm1(x)).reshape(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        weights = ((q * (D // self.heads) ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
        x = x + self.attn["proj"]((weights @ v).transpose(1, 2).reshape(B, N, D))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class VisionTransformer(nn.Module):
    """What s3prl asks timm for: a distilled ViT."""

    def __init__(self, width: int, heads: int, depth: int = 12):
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed = sys.modules["timm"].models.vision_transformer.PatchEmbed(embed_dim=width)
        self.cls_token, self.dist_token = (nn.Parameter(torch.zeros(1, 1, width)) for _ in range(2))
        self.pos_embed = nn.Parameter(torch.zeros(1, 198, width))
        self.pos_drop = nn.Identity()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head, self.head_dist = nn.Linear(width, 1000), nn.Linear(width, 1000)


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stand-in for timm 0.4.5, which no longer imports: s3prl's SSAST code itself is the real one."""
    sizes = {"tiny_distilled_patch16_224": (192, 3), "base_distilled_patch16_384": (768, 12)}
    modules = {name: ModuleType(name) for name in ("timm", "timm.models", "timm.models.layers")}
    top = modules["timm"]
    top.__version__ = "0.4.5"
    top.models = modules["timm.models"]
    top.models.vision_transformer = ModuleType("timm.models.vision_transformer")
    top.create_model = lambda name, pretrained: VisionTransformer(*sizes[name.removeprefix("vit_deit_")])
    modules["timm.models.layers"].to_2tuple = lambda x: (x, x)
    modules["timm.models.layers"].trunc_normal_ = nn.init.trunc_normal_
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    yield
    for name in [name for name in sys.modules if name.startswith("s3prl.upstream.ssast")]:
        del sys.modules[name]
