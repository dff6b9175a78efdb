"""Distillation of BEATs' tokenizer: the loss by hand, what may change and what must not, and that it learns."""

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from speechssl import registry, testing
from speechssl.errors import UserError
from speechssl.interfaces import Batch
from speechssl.nn.quantizer import UNUSED
from speechssl.upstream.beats import model
from speechssl.upstream.beats.distil import TokenizerDistillation
from speechssl.upstream.beats.distilled import DistilledTokenizer
from speechssl.upstream.beats.model import Beats

PLAIN = {"dropout": 0.0, "attention_dropout": 0.0}
DEBUG = {"hidden_size": 48, "num_layers": 2, "num_heads": 3, "embedding_size": 32, "conv_positions": 16, **PLAIN}
LENGTHS = [16000, 9000, 12345, 3000]


class Stream:
    """Batches that come again and again."""

    def __init__(self, *batches: Batch):
        self.batches, self.read, self.closed = batches, 0, False

    def iterate(self, start: int, step: int = 1) -> Iterator[Batch]:
        try:
            while True:
                yield self.batches[self.read % len(self.batches)]
                self.read += 1
        finally:
            self.closed = True


def made(teacher: dict | None = None, codes: int = 24, start: bool = True, **options) -> TokenizerDistillation:
    """Return the training of a small tokenizer, with a codebook from k-means."""
    torch.manual_seed(0)
    tokenizer = registry.build_tokenizer("beats", "distilled", {"upstream": DEBUG, "num_codes": codes, "code_size": 8})
    task = TokenizerDistillation(tokenizer, Beats(**DEBUG | (teacher or {})), **options)
    if start:
        task.on_start(Stream(batch()))
    return task.train()


def batch(lengths: list[int] = LENGTHS, seed: int = 0) -> Batch:
    return testing.make_batch(lengths, seed)


def step(task: TokenizerDistillation, optimizer: torch.optim.Optimizer, data: Batch, number: int) -> dict[str, Tensor]:
    values = task(data)
    optimizer.zero_grad()
    values["loss"].backward()
    optimizer.step()
    task.after_step(number)
    return values


def loop_loss(task: TokenizerDistillation, data: Batch) -> tuple[float, float]:
    """Return distance and commitment clip by clip, each clip alone."""
    distances, commitments = [], []
    for row, length in enumerate(data.lengths.tolist()):
        cells, frames = task.student.spectrogram(data.waveforms[row : row + 1, :length], data.lengths[row : row + 1])
        hidden = task.upstream.token_states(cells, frames)[0][-1]
        z = F.normalize(task.student.projection(hidden), dim=-1)[0]
        codebook = task.student.quantizer.codebook
        chosen = codebook[torch.cdist(z, codebook).argmin(1)]
        commitments += [float((a - b).square().mean()) for a, b in zip(z, chosen, strict=True)]
        estimate = task.estimator(chosen[None], torch.ones(1, len(chosen), dtype=torch.bool))[0]
        target = task.teacher.token_states(cells, frames)[0][-1][0]
        if task.target != "hidden":
            target = target @ task.teacher.classifier.weight.T + task.teacher.classifier.bias
        if task.target == "pooled_logits":
            patches = len(estimate)
            estimate, target = (x.mean(0, keepdim=True).expand(patches, -1) for x in (estimate, target))
        distances += [1 - float(a @ b / (a.norm() * b.norm())) for a, b in zip(estimate, target, strict=True)]
    return sum(distances) / len(distances), sum(commitments) / len(commitments)


@pytest.mark.parametrize("head", ["layernorm", "mlp_tanh"])
@pytest.mark.parametrize("target", ["hidden", "patch_logits", "pooled_logits"])
@torch.no_grad()
def test_loss_equals_a_loop_over_clips_of_unequal_length(target: str, head: str) -> None:
    task = made({"num_classes": 5}, target=target, estimator_head=head, beta=10.0)
    values = task(batch())
    distance, commitment = loop_loss(task, batch())
    assert float(values["distance"]) == pytest.approx(distance, rel=1e-4)
    assert float(values["commitment"]) == pytest.approx(commitment, rel=1e-4)
    assert float(values["loss"]) == pytest.approx(distance + 10 * commitment, rel=1e-4)
    assert float(values["weight"]) == 48 + 24 + 32 + 8


def test_contract() -> None:
    task = made()
    testing.check_pretrain_task(task)
    assert all(p.grad is not None for p in task.parameters())


def test_logged_codes_are_those_of_valid_patches() -> None:
    task = made()
    labels = task.tokenizer.tokenize(batch().waveforms, batch().lengths)
    values = task.eval()(batch())
    counts = labels[labels >= 0].bincount(minlength=24)
    assert float(values["used"]) == pytest.approx(int((counts > 0).sum()) / 24)
    share = counts[counts > 0] / counts.sum()
    assert float(values["perplexity"]) == pytest.approx(float((-(share * share.log()).sum()).exp()), rel=1e-5)
    size = task.tokenizer.quantizer.cluster_size
    assert float(values["dead"]) == pytest.approx(float((size < UNUSED * size.mean()).float().mean()))


def test_the_teacher_is_left_alone() -> None:
    task = made({"num_classes": 5, "dropout": 0.5, "layer_drop": 0.5}, target="patch_logits")
    before = copy.deepcopy(task.teacher.state_dict())
    optimizer = torch.optim.Adam(task.parameters(), lr=1e-2)
    generator = torch.get_rng_state()
    assert torch.equal(task.targets(*task.student.spectrogram(batch().waveforms, batch().lengths)), targets(task))
    assert torch.equal(torch.get_rng_state(), generator)
    for number in range(1, 3):
        step(task, optimizer, batch(), number)
    assert not task.train().teacher.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.teacher.state_dict().items())
    assert not any(p.requires_grad for p in task.teacher.parameters())
    own = {id(p) for p in task.parameters()}
    assert not own & {id(p) for p in task.teacher.parameters()}
    assert not [name for name in task.state_dict() if "teacher" in name or "classifier" in name]


def targets(task: TokenizerDistillation) -> Tensor:
    return task.targets(*task.student.spectrogram(batch().waveforms, batch().lengths))


def test_the_teacher_follows_to_another_device() -> None:
    task = made().to("meta")
    assert {p.device.type for p in task.teacher.parameters()} == {"meta"}


def test_a_step_moves_the_codebook_and_evaluation_nothing() -> None:
    task = made()
    optimizer = torch.optim.Adam(task.parameters(), lr=1e-3)
    before = task.tokenizer.quantizer.codebook.clone()
    step(task, optimizer, batch(), 1)
    assert not torch.equal(task.tokenizer.quantizer.codebook, before)
    torch.testing.assert_close(task.tokenizer.quantizer.codebook.norm(dim=1), torch.ones(24))
    frozen = {name: tensor.clone() for name, tensor in task.eval().named_buffers()}
    task(batch())
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in task.named_buffers())


def test_micro_batches_equal_one_batch() -> None:
    whole, parts = made(), made()
    values = whole(batch())
    values["loss"].backward()
    loss, total = 0.0, 0.0
    for row in range(4):
        one = slice(row, row + 1)
        part = Batch(batch().waveforms[one], batch().lengths[one], batch().ids[one], batch().seeds[one])
        found = parts(part)
        (found["loss"] * found["weight"] / values["weight"]).backward()
        loss += float(found["loss"].detach()) * float(found["weight"])
        total += float(found["weight"])
    assert loss / total == pytest.approx(float(values["loss"].detach()), rel=1e-5)
    for (name, a), b in zip(whole.named_parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4, msg=name)
    whole.after_step(1)
    parts.after_step(1)
    a, b = (task.tokenizer.quantizer.codebook for task in (whole, parts))
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_the_codebook_begins_with_one_seeded_pass() -> None:
    states = []
    for seed in (0, 0, 1):
        task, stream = made(start=False), Stream(batch(seed=seed), batch([8000] * 3, seed))
        for data, names in zip(stream.batches, ("abcd", "efg"), strict=True):
            data.ids = list(names)
        generator = torch.get_rng_state()
        task.on_start(stream)
        assert torch.equal(torch.get_rng_state(), generator)
        assert (stream.read, stream.closed, task.training) == (2, True, True)
        assert int(task.tokenizer.quantizer.cluster_size.sum()) == 48 + 24 + 32 + 8 + 3 * 24
        states.append(task.tokenizer.quantizer.codebook.clone())
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_enough_vectors_are_enough() -> None:
    task, stream = made(start=False, initial_vectors=100), Stream(batch())
    task.on_start(stream)
    assert (stream.read, stream.closed) == (0, True)
    assert int(task.tokenizer.quantizer.cluster_size.sum()) == 100


def test_all_codes_are_used_at_the_start() -> None:
    noise = batch([16000] * 40)
    noise.waveforms = 0.1 * torch.randn(noise.waveforms.shape, generator=torch.Generator().manual_seed(0))
    task = made(start=False, codes=64)
    task.on_start(Stream(noise))
    assert float(task(noise)["used"]) > 0.99


def test_audio_without_a_patch() -> None:
    short = batch([2000, 1000])
    with pytest.raises(UserError, match="long enough"):
        made(start=False).on_start(Stream(short))


def test_resuming_gives_the_same_bits() -> None:
    def trained(steps: int, state: dict | None = None) -> tuple[TokenizerDistillation, dict]:
        task = made(start=state is None, dead_code_reset_steps=2)
        optimizer = torch.optim.Adam(task.parameters(), lr=1e-2)
        done = 0
        if state is not None:
            task.load_state_dict(state["task"])
            optimizer.load_state_dict(state["optimizer"])
            done = state["steps"]
        for number in range(done + 1, steps + 1):
            step(task, optimizer, batch(seed=number), number)
        saved = {"task": task.state_dict(), "optimizer": optimizer.state_dict(), "steps": steps}
        return task, copy.deepcopy(saved)

    whole, _ = trained(5)
    _, half = trained(3)
    resumed, _ = trained(5, half)
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_dead_codes_come_back() -> None:
    used = []
    for patience in (0, 3):
        task = made(dead_code_reset_steps=patience)
        quantizer = task.tokenizer.quantizer
        quantizer.codebook[1:] = -quantizer.codebook[0]  # nobody chooses any of these but one
        for number in range(1, 7):
            task(batch())
            task.after_step(number)
        used.append(float(task(batch())["used"]))
    assert used[0] <= 3 / 24
    assert used[1] > 0.6


def test_it_learns_and_the_estimator_reads_the_codes() -> None:
    task = made(codes=128, start=False, decay=0.9, estimator_layers=2)
    clips = batch([5600] * 8)
    task.on_start(Stream(clips))
    optimizer = torch.optim.Adam(task.parameters(), lr=7e-3)
    for number in range(1, 141):
        values = step(task, optimizer, clips, number)
    assert float(values["distance"]) < 0.1
    task.eval()
    with torch.no_grad():
        cells, frames = task.student.spectrogram(clips.waveforms, clips.lengths)
        vectors, valid = task.student.vectors(cells, frames)
        codes, target = task.student.quantizer(vectors, valid).vectors, task.targets(cells, frames)
        mixed = codes[:, torch.randperm(codes.shape[1], generator=torch.Generator().manual_seed(0))]
        right, wrong = (float(task.distance(task.estimator(x, valid), target, valid)) for x in (codes, mixed))
    assert right < 0.1
    assert wrong > 3 * right


def test_teacher_of_another_width() -> None:
    task = made({"hidden_size": 32, "num_heads": 2, "num_layers": 1})
    values = task(batch())
    values["loss"].backward()
    assert task.estimator.head.out_features == 32
    assert 0.5 < float(values["distance"]) < 1.5


def test_one_spectrogram_serves_both(monkeypatch: pytest.MonkeyPatch) -> None:
    task, calls = made(), []
    for name, part in (("student", task.student.upstream), ("teacher", task.teacher)):
        forward = part.spectrogram.forward
        counted = lambda *given, name=name, forward=forward: calls.append(name) or forward(*given)  # noqa: E731
        monkeypatch.setattr(part.spectrogram, "forward", counted)
    task(batch())
    assert calls == ["student"]


def test_other_statistics_are_refused() -> None:
    with pytest.raises(UserError, match=r"teacher was made for .*mean and std \(14\.0, 5\.0\).*set upstream\.mean"):
        made({"mean": 14.0, "std": 5.0})
    torch.manual_seed(0)
    late = DistilledTokenizer({**DEBUG, "mean": None, "std": None}, 8, 8)
    task = TokenizerDistillation(late, Beats(**DEBUG))
    late.set_statistics(torch.tensor([14.0]), torch.tensor([5.0]))
    for use in (lambda: task(batch()), lambda: task.on_start(Stream(batch()))):
        with pytest.raises(UserError, match="the teacher was made for"):
            use()


def test_an_empty_batch_costs_nothing() -> None:
    task, data = made(), batch()
    data.empty = True
    values = task(data)
    values["loss"].backward()
    assert float(values["weight"]) == 0
    assert float(values["loss"].detach()) == 0
    assert all(p.grad is None or not p.grad.any() for p in task.parameters())
    before = task.tokenizer.quantizer.codebook.clone()
    task.after_step(1)
    assert torch.equal(task.tokenizer.quantizer.codebook, before)


def test_facts_tell_whether_labels_were_seen() -> None:
    lineage = {"labels_seen": False, "teacher": {"name": "encoder-1"}}
    facts = made(start=False, lineage=lineage).facts()
    assert facts == {"statistics": {"mean": pytest.approx(15.41663), "std": pytest.approx(6.55582)}, **lineage}
    assert made({"num_classes": 3}, start=False, lineage=lineage).facts()["labels_seen"] is True


def test_a_step_on_an_accelerator_never_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake tensors refuse every read of a value and every shape that depends on one."""

    class Given(torch.nn.Module):  # the frontend is built on the CPU; it has a test of its own
        known = False

        def forward(self, *_: Tensor) -> tuple[Tensor, Tensor]:
            return torch.randn(3, 64, 128), torch.tensor([64, 40, 33])

    monkeypatch.setattr(model, "Spectrogram", lambda *_: Given())
    with FakeTensorMode(), torch.device("cuda"):
        for target in ("hidden", "pooled_logits"):
            options = {"target": target, "dead_code_reset_steps": 2}
            task = made({"num_classes": 3}, start=False, **options)
            task._agreed = task.student.quantizer._ready = True  # looked up in the first step
            values = task(Batch(torch.zeros(3, 1), torch.tensor([1, 1, 1]), [], torch.tensor([1, 2, 3])))
            task.after_step(1)
            assert values["loss"].is_cuda


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "hiden"}, "nearest: 'hidden'"),
        ({"target": "patch_logits"}, "fine-tuned teacher"),
        ({"estimator_head": "mlp"}, "layernorm, mlp_tanh"),
        ({"dead_code_reset_steps": -1}, "dead_code_reset_steps"),
    ],
)
def test_wrong_settings(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(start=False, **options)
