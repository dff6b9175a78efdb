"""Published SSAST files: every tensor finds its place, both ways, and s3prl's own code reads what we write."""

from pathlib import Path

import pytest
import torch

from speechssl import configs, registry, testing
from speechssl.commands.main import dispatch
from speechssl.errors import UserError
from speechssl.hub import load_objective, load_upstream
from speechssl.upstream.ssast import Ssast, SsastPretraining, convert


def random_task(size: str, seed: int = 0) -> SsastPretraining:
    """Return a model whose every tensor is random, norms and positions included."""
    torch.manual_seed(seed)
    upstream = registry.build_upstream("ssast", configs.load("upstream", f"ssast/{size}")[1])
    task = SsastPretraining(upstream).eval()
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return task


@pytest.mark.parametrize("variant", ["patch", "frame"])
@torch.no_grad()
def test_s3prl_computes_the_same_from_what_we_write(timm: None, tmp_path: Path, variant: str) -> None:
    """Windows of one second, positions cropped, strides that overlap: all of s3prl's expert but the ViT's blocks."""
    expert = pytest.importorskip("s3prl.upstream.ssast.expert", exc_type=ImportError)
    task, file = random_task(f"{variant}_tiny"), tmp_path / "tiny.pth"
    convert.write(task.upstream, file, task)
    theirs = expert.UpstreamExpert(str(file), f"tiny_{variant[0]}").eval()
    stride = {"frequency_stride": 10, "time_stride": 10} if variant == "patch" else {"time_stride": 1}
    ours = load_upstream(f"ssast:{file}", superb_window=1.0, frequency_pooling="concat", **stride)
    waveforms = testing.speech_like([40000, 23456])
    expected = theirs(waveforms)["hidden_states"]
    found = ours(waveforms)
    assert ours.downsample_rate == theirs.get_downsample_rates("hidden_states")
    assert len(expected) == ours.num_layers
    for layer, states in enumerate(expected, start=1):
        assert states.shape == found.hidden_states[layer].shape
        for clip, frames in enumerate(found.lengths.tolist()):
            torch.testing.assert_close(
                found.hidden_states[layer][clip, :frames], states[clip, :frames], atol=2e-4, rtol=1e-4
            )


@pytest.mark.parametrize(
    ("size", "shape", "lengths"),
    [("base", (16, 16), [300]), ("tiny", (16, 16), [1100]), ("tiny", (128, 2), [1100, 300])],
)
@torch.no_grad()
def test_other_sizes_and_lengths_equal_s3prl(
    timm: None, tmp_path: Path, size: str, shape: tuple[int, int], lengths: list[int]
) -> None:
    """A clip longer than the table and one shorter, at the strides of fine-tuning."""
    models = pytest.importorskip("s3prl.upstream.ssast.ast_models", exc_type=ImportError)
    variant = "patch" if shape[0] == 16 else "frame"
    task, file = random_task(f"{variant}_{size}", seed=1), tmp_path / "model.pth"
    convert.write(task.upstream, file, task)
    strides = (10, 10) if variant == "patch" else (128, 1)
    generator = torch.Generator().manual_seed(3)
    for frames in lengths:
        theirs = models.ASTModel(7, *shape, *strides, 128, frames, size, False, str(file)).eval()
        ours = load_upstream(
            f"ssast:{file}",
            frequency_stride=strides[0],
            time_stride=strides[1],
            frequency_pooling="concat",
            target_frames=frames,
            input_frames=1100,
            position_grid=(128 // shape[0], 1024 // shape[1]),
        )
        cells = torch.randn(1, frames, 128, generator=generator) * 0.5
        blocks, final = theirs(cells)
        found = ours.encode_spectrogram(cells, torch.tensor([frames])).hidden_states
        torch.testing.assert_close(found[6], blocks[5], atol=5e-4, rtol=1e-4)
        patches = final[:, 2:].reshape(1, ours.rows, -1, ours.width).transpose(1, 2).flatten(2)
        torch.testing.assert_close(found[-1], patches, atol=5e-4, rtol=1e-4)


@pytest.mark.parametrize("size", ["patch_debug", "frame_debug", "patch_tiny"])
def test_pretrained_files_convert_both_ways(tmp_path: Path, size: str) -> None:
    task = random_task(size)
    convert.write(task.upstream, tmp_path / "a.pth", task)
    published = torch.load(tmp_path / "a.pth", weights_only=True)
    layers = task.upstream.num_layers
    assert len(published) == 10 + 12 * layers + 8  # with the four dead tensors of two image heads: 166 for 12 layers
    assert all(name.startswith("module.") for name in published)
    heads = {} if size == "patch_tiny" else {"num_heads": 3}
    again = load_upstream(f"ssast:{tmp_path / 'a.pth'}", **heads)
    state = task.upstream.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())
    objective = load_objective(tmp_path / "a.pth", again)
    for name, tensor in objective.state_dict().items():
        assert torch.equal(tensor, task.state_dict()[name]), name
    convert.write(again, tmp_path / "b.pth", objective)
    second = torch.load(tmp_path / "b.pth", weights_only=True)
    assert second.keys() == published.keys()
    assert all(torch.equal(second[name], tensor) for name, tensor in published.items())


def test_golden_file_converts_to_the_same_tensors(ssast_golden: dict, tmp_path: Path) -> None:
    torch.save(ssast_golden["state_dict"], tmp_path / "golden.pth")
    upstream = load_upstream(f"ssast:{tmp_path / 'golden.pth'}", num_heads=3)
    convert.write(upstream, tmp_path / "again.pth", load_objective(tmp_path / "golden.pth", upstream))
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    dropped = ssast_golden["state_dict"].keys() - again.keys()
    assert dropped == {f"module.v.{head}.{part}" for head in ("head", "head_dist") for part in ("weight", "bias")}
    assert all(torch.equal(tensor, ssast_golden["state_dict"][name]) for name, tensor in again.items())


@pytest.mark.parametrize(
    ("settings", "frames"),
    [
        ({"frequency_stride": 10, "time_stride": 10, "position_grid": (12, 50)}, 506),
        ({"patch_frequency": 128, "patch_time": 2, "time_stride": 1, "position_grid": (1, 127)}, 128),
        ({"position_grid": (8, 11)}, 176),
    ],
)
def test_fine_tuned_files_keep_their_grid_and_classifier(tmp_path: Path, settings: dict, frames: int) -> None:
    torch.manual_seed(0)
    before = Ssast(hidden_size=64, num_layers=1, num_classes=5, target_frames=frames, **settings).eval()
    convert.write(before, tmp_path / "tuned.pth")
    after = load_upstream(f"ssast:{tmp_path / 'tuned.pth'}")
    assert after.stride == before.stride
    assert after.grid == before.grid
    assert after.spectrogram.target_frames == frames
    waveforms = torch.nn.utils.rnn.pad_sequence(testing.speech_like([48000, 30000]), batch_first=True)
    lengths = torch.tensor([48000, 30000])
    with torch.no_grad():
        torch.testing.assert_close(after.classify(waveforms, lengths), before.classify(waveforms, lengths))
    assert load_objective(tmp_path / "tuned.pth", after) is None


def test_the_convert_command_keeps_everything(tmp_path: Path) -> None:
    task = random_task("patch_tiny")
    convert.write(task.upstream, tmp_path / "a.pth", task)
    dispatch(["convert", "family=ssast", f"source={tmp_path / 'a.pth'}", f"out={tmp_path / 'folder'}"])
    dispatch(["convert", "family=ssast", f"source={tmp_path / 'folder'}", f"out={tmp_path / 'b.pth'}"])
    first, second = (torch.load(tmp_path / name, weights_only=True) for name in ("a.pth", "b.pth"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_wrong_files_are_one_clear_line(tmp_path: Path) -> None:
    task = random_task("patch_debug")
    convert.write(task.upstream, tmp_path / "good.pth", task)
    good = torch.load(tmp_path / "good.pth", weights_only=True)

    def message(state: object, name: str = "ssast", **settings: object) -> str:
        torch.save(state, tmp_path / "bad.pth")
        with pytest.raises(UserError) as error:
            load_upstream(f"{name}:{tmp_path / 'bad.pth'}", **{"num_heads": 3} | settings)
        return str(error.value)

    assert "not an SSAST checkpoint" in message({"model": 1})
    assert "not an SSAST checkpoint" in message([1, 2])
    missing = {name: tensor for name, tensor in good.items() if "blocks.1.mlp.fc2.bias" not in name}
    assert "lacks the tensor module.v.blocks.1.mlp.fc2.bias" in message(missing)
    assert "no place for: v.extra" in message(good | {"module.v.extra": torch.zeros(1)})
    wrong = good | {"module.v.norm.weight": torch.ones(7)}
    assert "norm.weight has shape (7,), expected (48,)" in message(wrong)
    short = good | {"module.v.pos_embed": torch.zeros(1, 20, 48)}
    assert "20 positions" in message(short)
    assert "patch_frequency=16 instead of 128" in message(good, "ssast/frame_debug")
    plain = {name: tensor for name, tensor in good.items() if "p_input" not in name and "mask_embed" not in name}
    odd = plain | {"module.v.patch_embed.proj.weight": torch.zeros(48, 1, 20, 20)}
    assert "cannot tell the strides" in message(odd)
    with pytest.raises(UserError, match="num_heads"):
        load_upstream(f"ssast:{tmp_path / 'good.pth'}")
