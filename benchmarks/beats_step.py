"""BEATs pretraining step: ours, against the arrangement of public code. Forward, backward and AdamW, from waveforms on.

The other side does what public code does in a step (OpenBEATs for the objective, the published model for the encoder),
with the same weights: filter banks clip by clip with torchaudio, distances to all codes, all patches embedded before
most are left out, the kept ones encoded as if they were neighbours, `Conv1d` with PyTorch's weight norm, the attention
of `beats_forward.py`, zeros put between by an index that undoes a shuffle, label scores of all patches of which the
hidden ones are selected, AdamW that is not fused. Filled with zeros on both sides, where OpenBEATs learns the filling.

Before anything is timed, labels, losses and gradients are compared on the same hidden patches, with ours encoding
neighbours too. What is timed is ours as it trains, at true distances ("grid"), for which the positions are convolved
over whole clips, four times as long; `--positions compact` times it with the same mathematics as the other side.

Run: python benchmarks/beats_step.py [--size tiny|base --precision fp32|bf16 --positions grid|compact --clips 0
     --seconds 0 --threads 1 --device cpu|cuda --rounds 9 --json OUT], where 0 is what the size has in SIZES
"""

import copy

import torch
import torch.nn.functional as F
from beats_forward import MaterialisedBias
from side_by_side import arguments, interleave, peer, report
from torch import Tensor, nn

from speechssl import configs, registry, testing
from speechssl.interfaces import Batch
from speechssl.upstream.beats import BeatsPretraining
from speechssl.upstream.beats.hide import Split
from speechssl.upstream.beats.pretrain import Clips

SIZES = {"tiny": (16, 1.945), "base": (2, 10.0)}  # clips and their seconds
TOLERANCE = 1e-4  # relative difference of loss and gradient in float32
KEPT = 0.25  # share of patches that the encoder sees
ADAMW = {"lr": 5e-4, "betas": (0.9, 0.98), "weight_decay": 0.01}


class Eager:
    """A step as public code arranges it, with a copy of the weights of `task`."""

    def __init__(self, task: BeatsPretraining):
        self.task, self.kaldi = copy.deepcopy(task), peer("torchaudio.compliance.kaldi")
        self.upstream = self.task.upstream
        self.attention = MaterialisedBias(self.upstream)
        self.upstream.encoder.positions = _convolution(self.upstream.encoder.positions)
        self.optimizer = torch.optim.AdamW(self.task.parameters(), fused=False, **ADAMW)

    def spectrogram(self, waveforms: Tensor) -> Tensor:
        """Return (B, T, 128), clip by clip."""
        own = self.upstream.spectrogram
        options = {"num_mel_bins": 128, "sample_frequency": 16000, "frame_length": 25, "frame_shift": 10}
        cells = torch.stack([self.kaldi.fbank(waveform[None] * 2**15, **options) for waveform in waveforms])
        return (cells - own.mean) / (2 * own.std)

    @torch.no_grad()
    def labels(self, cells: Tensor) -> Tensor:
        """Return (B, N): the nearest code by its distance to the normalised projection."""
        tokenizer = self.task.targets.tokenizer.module
        patches = F.unfold(cells[:, None], 16, stride=16).transpose(1, 2)
        projected = F.normalize(F.layer_norm(patches, (256,)) @ tokenizer.projection.T, dim=-1).flatten(0, 1)
        codes = tokenizer.codebook
        distances = projected.square().sum(1, keepdim=True) - 2 * projected @ codes.T + codes.square().sum(1)
        return distances.argmin(dim=1).view(patches.shape[:2])

    def shuffle(self, clips: int, patches: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the kept patches (B, k), in order, and the hidden ones."""
        order = torch.rand(clips, patches, device=device).argsort(dim=1)
        count = round(KEPT * patches)
        return order[:, :count].sort(dim=1).values, order[:, count:]

    def loss(self, cells: Tensor, codes: Tensor, kept: Tensor, hidden: Tensor) -> Tensor:
        upstream, task = self.upstream, self.task
        kernel = upstream.embedding.weight.unflatten(1, (1, 16, 16))
        tokens = F.conv2d(cells[:, None], kernel, stride=16).flatten(2).transpose(1, 2)
        tokens = upstream.projection(upstream.embedding_norm(tokens))
        B, N, D = tokens.shape
        x = tokens.gather(1, kept[..., None].expand(-1, -1, D))
        moved = upstream.encoder.positions(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        x = upstream.encoder.norm(x + F.gelu(moved))
        x = self.attention.stack(upstream.encoder.stack, F.dropout(x, upstream.encoder.dropout, upstream.training))
        restore = torch.cat([kept, hidden], dim=1).argsort(dim=1)
        x = torch.cat([x, x.new_zeros(B, N - x.shape[1], D)], dim=1)
        x = x.gather(1, restore[..., None].expand(-1, -1, D))
        scores = task.output(task.predictor_norm(self.attention.stack(task.predictor, x))).float()
        mask = torch.ones(B, N, dtype=torch.bool, device=x.device).scatter(1, kept, False)
        return F.cross_entropy(scores[mask], codes[mask])

    def step(self, batch: Batch, precision: torch.dtype | None) -> None:
        cells = self.spectrogram(batch.waveforms)
        codes = self.labels(cells)
        kept, hidden = self.shuffle(*codes.shape, codes.device)
        with torch.autocast(cells.device.type, precision, enabled=precision is not None):
            loss = self.loss(cells, codes, kept, hidden)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


class Ours:
    """Our step, as the training loop runs it."""

    def __init__(self, task: BeatsPretraining):
        self.task = task
        self.optimizer = torch.optim.AdamW(task.parameters(), fused=True, **ADAMW)

    def step(self, batch: Batch, precision: torch.dtype | None) -> None:
        batch.seeds += 1
        with torch.autocast(batch.waveforms.device.type, precision, enabled=precision is not None):
            loss = self.task(batch)["loss"]
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def _convolution(positions: nn.Module) -> nn.Module:
    """Return convolutional positions as a module of PyTorch, with the same weights; one output too many."""
    D, width, taps = positions.direction.shape
    made = nn.Conv1d(D, D, taps, padding=taps // 2, groups=D // width, device=positions.bias.device)
    made = nn.utils.parametrizations.weight_norm(made, dim=2)
    values = {"original0": positions.magnitude, "original1": positions.direction}
    state = {f"parametrizations.weight.{name}": value for name, value in values.items()}
    made.load_state_dict(state | {"bias": positions.bias})
    return made


@torch.no_grad()
def unhide(task: BeatsPretraining) -> None:
    """Change weights that are so small, or so equal, without training that errors in what they do would not show."""
    for stack in (task.upstream.encoder.stack, task.predictor):
        stack.bias.table.normal_(std=0.7)
        for layer in stack.layers:
            layer.attention.gate_scale.uniform_(0.5, 2.0)
    task.output.weight.normal_(std=0.3)


def compare(theirs: Eager, ours: BeatsPretraining, batch: Batch) -> str:
    """Return how far labels, loss and gradients agree on the same hidden patches; end the program if they do not."""
    theirs.task.eval()
    ours.eval()
    cells, frames = ours.upstream.spectrogram(batch.waveforms, batch.lengths)
    codes = ours.targets(batch, cells, frames)
    same = float((theirs.labels(theirs.spectrogram(batch.waveforms)) == codes).float().mean())
    kept, hidden = theirs.shuffle(*codes.shape, codes.device)
    expected = theirs.loss(cells, codes, kept, hidden)
    split = Split(kept, kept >= 0, hidden, hidden >= 0)
    ours.positions, chosen = "compact", ours.positions
    states = ours.predictor_states(Clips(ours.upstream.patches(cells), codes >= 0, codes, split))
    found = F.cross_entropy(ours.logits(states, hidden).flatten(0, 1), codes.gather(1, hidden).flatten())
    ours.positions = chosen
    gradients = []
    for loss, task in ((expected, theirs.task), (found, ours)):
        loss.backward()
        gradients.append(task.upstream.embedding.weight.grad.clone())
        task.zero_grad()
    off = _difference(expected.detach(), found.detach()), _difference(*gradients)
    if not (max(off) <= TOLERANCE and same > 0.999):
        raise SystemExit(f"loss and gradient differ by {off}, {same:.2%} of labels agree: nothing was timed")
    return f"relative difference of loss {off[0]:.1e}, of a gradient {off[1]:.1e} (float32), {same:.2%} of labels"


def _difference(expected: Tensor, found: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def main() -> None:
    options = {"size": "tiny", "precision": "fp32", "positions": "grid", "device": "cpu"}
    given = arguments(__doc__.splitlines()[0], clips=0, seconds=0.0, **options)
    usual = SIZES[given.size]
    given.clips, given.seconds = given.clips or usual[0], given.seconds or usual[1]
    torch.manual_seed(0)
    upstream = registry.build_upstream("beats", configs.load("upstream", f"beats/{given.size}")[1])
    task = BeatsPretraining(upstream, positions=given.positions).to(given.device)
    unhide(task)
    theirs, ours = Eager(task), Ours(task)
    batch = testing.make_batch([round(16000 * given.seconds)] * given.clips).to(given.device)
    equality = compare(theirs, task, batch)
    theirs.task.train()
    task.train()
    precision = torch.bfloat16 if given.precision == "bf16" else None

    def timed(side: Eager | Ours) -> None:
        side.step(batch, precision)
        if given.device != "cpu":
            torch.cuda.synchronize()

    sides = {"public arrangement, eager": lambda: timed(theirs), "speechssl": lambda: timed(ours)}
    seconds = interleave(sides, given.rounds)
    clips = f"{given.clips} x {given.seconds:g} s"
    report(
        f"BEATs {given.size} step ({given.positions}), {clips}, {given.precision} on {given.device}",
        seconds,
        equality,
        given,
    )


if __name__ == "__main__":
    main()
