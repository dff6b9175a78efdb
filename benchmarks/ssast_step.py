"""SSAST pretraining step: one encoder pass for both losses, against the arrangement of the original.

The other side does what the authors' code does in a step: two encoder passes with two masks, attention written out
(scores, softmax, product), masks drawn clip by clip in Python, dense mask tensors, predictors and losses clip by clip,
Adam that is not fused. Both sides have the same weights and the same spectrograms; before anything is timed, both
losses are compared on the same two masks.

Run: python benchmarks/ssast_step.py [--size patch_tiny --clips 8 --frames 1024 --precision fp32|bf16 --device cpu|cuda
     --compile 0|1 --threads 1 --json OUT]
"""

import copy
import random
from collections.abc import Callable

import torch
from side_by_side import arguments, interleave, report
from torch import Tensor

from speechssl import configs, registry
from speechssl.nn.patches import to_patches
from speechssl.upstream.ssast import SsastPretraining
from speechssl.upstream.ssast.masking import Hidden
from speechssl.upstream.ssast.pretrain import MASK, Grid

TOLERANCE = 1e-4  # relative difference of the losses in float32
HIDDEN = 400 / 512


class TwoPasses:
    """A step as the original arranges it, with the weights of `task`."""

    def __init__(self, task: SsastPretraining):
        self.task, self.generator = task, random.Random(0)
        self.optimizer = torch.optim.Adam(
            task.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=5e-7, fused=False
        )

    def mask(self, rows: int, columns: int) -> list[int]:
        """Draw one clip's hidden patches."""
        total = rows * columns
        hidden = int(HIDDEN * total)
        if rows == 1:
            return self.generator.sample(range(total), hidden)
        side, found = 3 + self.generator.randrange(3), set()
        while len(found) <= hidden:
            start = self.generator.randrange(total)
            for row in range(side):
                for column in range(side):
                    place = start + columns * row + column
                    if 0 < place < total:
                        found.add(place)
        return sorted(found)[:hidden]

    def encode(self, cells: Tensor, masks: list[Tensor]) -> Tensor:
        """Return outputs (B, N, D) with attention written out."""
        upstream = self.task.upstream
        tokens = upstream.embedding(cells.transpose(1, 2)[:, None]).flatten(2).transpose(1, 2)
        dense = torch.ones_like(tokens)
        for clip, mask in enumerate(masks):
            dense[clip, mask, :] = 0
        tokens = tokens * dense + self.task.mask_embedding * (1 - dense)
        tokens = tokens + upstream.positions.flatten(0, 1)
        first = (upstream.class_tokens + upstream.class_positions).expand(len(cells), -1, -1)
        x = torch.cat([first, tokens], dim=1)
        for layer in upstream.layers:
            x = x + self.attend(layer.attention, layer.attention_norm(x))
            x = x + layer.contract(torch.nn.functional.gelu(layer.expand(layer.output_norm(x))))
        return upstream.norm(x)[:, len(upstream.class_tokens) :]

    @staticmethod
    def attend(attention: torch.nn.Module, x: Tensor) -> Tensor:
        B, N, D = x.shape
        q, k, v = attention.qkv(x).reshape(B, N, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        weights = ((q @ k.transpose(-2, -1)) * (D // attention.num_heads) ** -0.5).softmax(dim=-1)
        return attention.output((weights @ v).transpose(1, 2).reshape(B, N, D))

    def losses(self, cells: Tensor, patches: Tensor, masks: list[list[Tensor]]) -> Tensor:
        """Return the joint loss, one mask per clip and pass."""
        nce = mse = 0.0
        outputs = self.encode(cells, masks[0])
        for clip, mask in enumerate(masks[0]):
            scores = patches[clip, mask] @ self.task.discriminator(outputs[clip, mask]).float().T
            nce = nce - scores.log_softmax(dim=1).diagonal().sum()
        outputs = self.encode(cells, masks[1])
        for clip, mask in enumerate(masks[1]):
            mse = mse + (self.task.generator(outputs[clip, mask]).float() - patches[clip, mask]).square().mean()
        return nce / (len(cells) * len(masks[0][0])) + 10 * mse / len(cells)

    def step(self, cells: Tensor, precision: torch.dtype | None) -> None:
        patches = to_patches(cells, *self.task.upstream.patch)
        rows, columns = patches.shape[1:3]
        masks = [[torch.tensor(self.mask(rows, columns), device=cells.device) for _ in cells] for _ in range(2)]
        with torch.autocast(cells.device.type, precision, enabled=precision is not None):
            loss = self.losses(cells, patches.flatten(1, 2), masks)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


class OnePass:
    """Our step: as the training loop runs it, from the spectrogram on."""

    def __init__(self, task: SsastPretraining):
        self.task, self.number = task, 0
        self.optimizer = torch.optim.AdamW(task.parameters(), lr=1e-4, betas=(0.95, 0.999), fused=True)

    def losses(self, grid: Grid, masks: list[Hidden] | None, seeds: Tensor) -> Tensor:
        """Return the joint loss; with two masks, each loss on its own one."""
        task, log = self.task, {}
        if masks is None:
            hidden, outputs = task.predict_from(grid, seeds, MASK)
            nce = task.discriminative(grid, hidden, outputs, log)
            return nce + 10 * task.generative(grid, hidden, outputs, log)
        nce = task.discriminative(grid, masks[0], task.outputs(grid, masks[0]), log)
        return nce + 10 * task.generative(grid, masks[1], task.outputs(grid, masks[1]), log)

    def step(self, cells: Tensor, precision: torch.dtype | None) -> None:
        seeds = torch.arange(len(cells), device=cells.device) + 1000 * self.number
        self.number += 1
        with torch.autocast(cells.device.type, precision, enabled=precision is not None):
            loss = self.losses(grid_of(self.task, cells), None, seeds)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def grid_of(task: SsastPretraining, cells: Tensor) -> Grid:
    patches = to_patches(cells, *task.upstream.patch)
    columns = torch.full((len(cells),), patches.shape[2], device=cells.device)
    return Grid(cells, patches, columns, torch.zeros_like(columns), None)


@torch.no_grad()
def compare(theirs: TwoPasses, ours: OnePass, cells: Tensor) -> float:
    """Return the relative difference of both losses on the same masks; end the program if it is too large."""
    grid = grid_of(ours.task, cells)
    rows, columns = grid.patches.shape[1:3]
    masks = [[torch.tensor(theirs.mask(rows, columns), device=cells.device) for _ in cells] for _ in range(2)]
    expected = theirs.losses(cells, grid.patches.flatten(1, 2), masks)
    hidden = []
    for index in map(torch.stack, masks):
        mask = torch.zeros(len(cells), rows * columns, dtype=torch.bool, device=cells.device).scatter_(1, index, True)
        hidden.append(Hidden(index, torch.ones_like(index, dtype=torch.bool), mask))
    difference = float((ours.losses(grid, hidden, torch.zeros(len(cells))) / expected - 1).abs())
    if not difference <= TOLERANCE:
        raise SystemExit(f"the losses differ by {difference:.1e}: nothing was timed")
    return difference


def main() -> None:
    options = {"size": "patch_tiny", "frames": 1024, "precision": "fp32", "device": "cpu", "compile": 0}
    given = arguments(__doc__.splitlines()[0], clips=8, **options)
    config = configs.load("upstream", f"ssast/{given.size}")[1] | {"input_frames": given.frames}
    torch.manual_seed(0)
    task = SsastPretraining(registry.build_upstream("ssast", config)).to(given.device)
    theirs, ours = TwoPasses(copy.deepcopy(task)), OnePass(task)
    cells = (0.5 * torch.randn(given.clips, given.frames, 128)).to(given.device)
    difference = compare(theirs, ours, cells)
    if given.compile:
        task.upstream.transform = torch.compile(task.upstream.transform)
    precision = torch.bfloat16 if given.precision == "bf16" else None

    def timed(step: Callable[[Tensor, torch.dtype | None], None]) -> Callable[[], None]:
        def run() -> None:
            step(cells, precision)
            if given.device != "cpu":
                torch.cuda.synchronize()

        return run

    sides = {"two passes, eager": timed(theirs.step), "one pass, speechssl": timed(ours.step)}
    seconds = interleave(sides, given.rounds)
    title = f"SSAST {given.size} step, {given.clips} x {given.frames} frames, {given.precision} on {given.device}"
    report(title, seconds, f"relative difference of losses {difference:.1e} (float32, the same masks)", given)


if __name__ == "__main__":
    main()
