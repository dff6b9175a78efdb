"""One training step of fine-tuning, seen from inside."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl import configs
from speechssl.finetune.audio import LabelledAudio
from speechssl.finetune.draws import class_lists
from speechssl.finetune.model import build_model
from speechssl.finetune.objective import Finetuning
from speechssl.finetune.settings import Extent
from speechssl.finetune.training import Training
from speechssl.hub import load_upstream
from speechssl.interfaces import Batch, DownstreamTask, Upstream
from speechssl.optim.groups import layer_factors
from speechssl.probe.outcome import Place

Settings = Callable[..., Any]
EXTENT = Extent(total=18, epoch=3, evaluate=3)


def tuning(task: DownstreamTask, toy: Upstream, settings: Any) -> Finetuning:
    model = build_model(toy, task, layers=settings.layers, head=settings.head, seed=0)
    return Finetuning(model, task, settings, EXTENT)


def batch_of(task: DownstreamTask, size: int = 6) -> Batch:
    examples = task.dataset("train")
    audio = LabelledAudio(examples, 0, classes=class_lists(examples.labels), num_classes=3)
    return audio[[(index, 0) for index in range(size)]]


def test_encoder_and_head_have_their_own_rates(task: DownstreamTask, toy: Upstream, settings: Settings) -> None:
    for optimizer, decays in (("adam", [0.1]), ("adamw", [0.1, 0.0])):
        made = tuning(task, toy, settings(optimizer=optimizer, weight_decay=0.1, head_lr=5.0, layers="mix"))
        groups = made.optimizer(1e-2).param_groups
        assert [group["lr"] for group in groups] == [1e-2] * len(decays) + [5e-2] * len(decays)
        assert [group["weight_decay"] for group in groups] == decays * 2
        encoder = {id(p) for group in groups if group["lr"] == 1e-2 for p in group["params"]}
        assert encoder == {id(p) for p in made.model.upstream.parameters()}
        head = {id(p) for group in groups if group["lr"] == 5e-2 for p in group["params"]}
        assert head == {id(p) for p in made.model.head.parameters()}


def test_lower_layers_have_lower_rates(task: DownstreamTask, toy: Upstream, settings: Settings) -> None:
    for optimizer in ("adam", "adamw"):
        made = tuning(task, toy, settings(optimizer=optimizer, layer_decay=0.5, head_lr=5.0))
        rates = {id(p): group["lr"] for group in made.optimizer(1e-2).param_groups for p in group["params"]}
        for name, parameter in made.model.named_parameters():
            expected = 5e-2 if name.startswith("head") else 5e-3 if "layers.0." in name else 1e-2
            assert rates[id(parameter)] == expected, name


@pytest.mark.parametrize("family", configs.trainable())
def test_every_family_has_its_layers_in_order(family: str) -> None:
    upstream = load_upstream(f"{family}/debug@random")
    factors = layer_factors(upstream, 0.5)
    for name, parameter in upstream.named_parameters():
        numbered, last = "layers." in name, name.startswith(("norm.", "classifier."))
        layer = int(name.split("layers.")[1][0]) if numbered else upstream.num_layers - 1 if last else -1
        assert factors[parameter] == 0.5 ** (upstream.num_layers - 1 - layer), name


def test_adam_takes_the_first_step_with_these_rates(task: DownstreamTask, toy: Upstream, settings: Settings) -> None:
    made = tuning(task, toy, settings(head_lr=5.0)).train()
    before = {name: p.clone() for name, p in made.model.named_parameters()}
    optimizer = made.optimizer(1e-3)
    made(batch_of(task))["loss"].backward()
    optimizer.step()
    for name, parameter in made.model.named_parameters():
        moved = float((parameter - before[name]).detach().abs().max())  # Adam's first step is the rate times the sign
        assert moved == pytest.approx(5e-3 if name.startswith("head") else 1e-3, rel=1e-2), name


def test_the_average_is_the_mean_of_the_weights_at_the_ends_of_epochs(
    task: DownstreamTask, toy: Upstream, settings: Settings
) -> None:
    made = tuning(task, toy, settings(select="average", average_from=2))
    ends = []
    for step in range(1, 16):
        with torch.no_grad():
            for parameter in made.model.parameters():
                parameter.add_(0.01 * step)
        made.after_step(step)
        if step % 3 == 0 and step >= 6:
            ends.append([p.detach().clone() for p in made.model.parameters()])
        if step == 5:
            assert made.chosen() is made.model
    assert len(ends) == 4
    assert made.chosen() is made.average
    for mean, *values in zip(made.average.parameters(), *ends, strict=True):
        torch.testing.assert_close(mean, torch.stack(values).mean(dim=0))


def test_frozen_epochs_leave_the_encoder_alone(task: DownstreamTask, toy: Upstream, settings: Settings) -> None:
    made = tuning(task, toy, settings(freeze_epochs=2)).train()
    batch = batch_of(task)
    for step, learns in ((5, False), (6, True)):  # two epochs of three steps
        made.zero_grad()
        made.after_step(step)
        made(batch)["loss"].backward()
        assert all((p.grad is not None) == learns for p in made.model.upstream.parameters())
        assert made.model.upstream.training == learns
        assert all(p.grad is not None for p in made.model.head.parameters())


def test_augmentation_happens_in_training_only(task: DownstreamTask, toy: Upstream, settings: Settings) -> None:
    made = tuning(task, toy, settings(frequency_mask=5, time_mask=5))
    batch, seen = batch_of(task), made.model.upstream.seen
    made.train()(batch)
    made(batch)
    made.eval()(batch)
    made.model(batch.waveforms, batch.lengths)
    assert torch.equal(seen[-4], seen[-3])  # the same seeds
    assert torch.equal(seen[-2], seen[-1])
    masked = seen[-4] == -7.0
    assert masked.any(dim=(1, 2)).sum() >= 4  # widths may be 0
    assert not (seen[-2] == -7.0).any()
    assert torch.equal(seen[-4][~masked], seen[-2][~masked])
    assert made.model.upstream.spectrogram_augment is None


def test_masks_can_be_a_share_of_the_clip(task: DownstreamTask, toy: Upstream, settings: Settings) -> None:
    made = tuning(task, toy, settings(time_mask_share=0.4))
    frames, seeds = torch.tensor([10, 40] * 100), torch.arange(200)
    augmented = made.augment(torch.zeros(200, 40, 10), frames, seeds)
    widths = (augmented[..., 0] == -7.0).sum(dim=1)
    assert (int(widths[::2].max()), int(widths[1::2].max())) == (3, 15)  # below 4 and 16 frames


def test_warps_come_before_masks(task: DownstreamTask, toy: Upstream, settings: Settings) -> None:
    features = torch.arange(30.0).expand(8, 30)[..., None].expand(8, 30, 10)
    frames, seeds = torch.full((8,), 30), torch.arange(8)
    warped = tuning(task, toy, settings(time_warp=5)).augment(features, frames, seeds)
    assert not torch.equal(warped, features)
    both = tuning(task, toy, settings(time_warp=5, time_mask=9)).augment(features, frames, seeds)
    masked = both == -7.0
    assert masked.any()
    assert torch.equal(both[~masked], warped[~masked])


def test_labels_are_smoothed_in_training_only(task: DownstreamTask, toy: Upstream, settings: Settings) -> None:
    toy.dropout.p = 0.0
    made, batch = tuning(task, toy, settings(label_smoothing=0.1)), batch_of(task)
    scores, _ = made.model(batch.waveforms, batch.lengths)
    truth = torch.tensor(batch.labels["class"])
    for training, smoothing in ((True, 0.1), (False, 0.0)):
        loss = made.train(training)(batch)["loss"]
        torch.testing.assert_close(loss, F.cross_entropy(scores, truth, label_smoothing=smoothing))


@pytest.mark.parametrize("loss", ["ce", "bce", "task"])
def test_losses_equal_their_definitions(task: DownstreamTask, toy: Upstream, settings: Settings, loss: str) -> None:
    made = tuning(task, toy, settings(loss=loss)).eval()
    batch = batch_of(task)
    scores, _ = made.model(batch.waveforms, batch.lengths)
    truth = torch.tensor(batch.labels["class"])
    expected: Tensor = -scores.log_softmax(1)[torch.arange(6), truth].mean()
    if loss == "bce":
        hot = torch.eye(3)[truth]
        expected = -(hot * scores.sigmoid().log() + (1 - hot) * (1 - scores.sigmoid()).log()).mean()
    values = made(batch)
    torch.testing.assert_close(values["loss"], expected)
    assert float(values["weight"]) == 6


def test_accumulated_batches_equal_one_large_one(task: DownstreamTask, toy: Upstream, settings: Settings) -> None:
    toy.dropout.p = 0.0
    common = {"select": "last", "epochs": 1}
    place = Place(None, 0, "", {})
    found = []
    for recipe in ({"batch_size": 12}, {"batch_size": 6, "accumulate": 2}):
        training = Training(task, toy, settings(**common, **recipe), "cpu", place)
        found.append(training.fit(task.dataset("train"), 1e-3, "", None).model.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=1e-5, rtol=1e-4)


def test_lengths_of_trainings(task: DownstreamTask, toy: Upstream, settings: Settings) -> None:
    def extent(utterances: int, **changes: Any) -> tuple[int, int, int]:
        found = Training(task, toy, settings(**changes), "cpu", Place(None, 0, "", {})).extent(utterances)
        return found.total, found.epoch, found.evaluate

    assert extent(30) == (18, 3, 3)
    assert extent(36, eval_every=2) == (24, 4, 8)
    assert extent(3) == (6, 1, 1)
    assert extent(100, batch_size=4, accumulate=8) == (18, 3, 3)
    assert extent(30, steps=100, eval_every=20) == (100, 3, 20)
    with pytest.raises(ValueError, match="never reached"):
        extent(30, steps=10, select="average", average_from=4)
