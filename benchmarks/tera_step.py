"""TERA pretraining step: forward, backward, clipping and update, speechssl against s3prl.

Both sides start from the same weights and get the same altered features, label and dropout rate. s3prl's side
is its encoder, its head, its loss over selected elements and its own optimizer; its data
pipeline is left out. Ours is the step of the training loop: masked sum and fused AdamW. `--precision bf16`
runs ours under autocast.

Run: python benchmarks/tera_step.py [--seconds 10 --clips 4 --dropout 0.1 --precision fp32|bf16 --json OUT]
"""

import torch
from side_by_side import arguments, interleave, peer, report
from torch import nn

from speechssl.losses.masked import masked_error
from speechssl.nn.positions import sinusoids
from speechssl.optim.groups import decay_groups
from speechssl.upstream.tera import Tera, TeraPretraining
from speechssl.upstream.tera.layout import head_to_published, upstream_to_published

TOLERANCE = 1e-4  # relative difference of the losses in float32 without dropout
RATE = 1e-4


class Theirs(nn.Module):
    """s3prl's encoder and head with our weights."""

    def __init__(self, model: nn.Module, task: TeraPretraining, dropout: float):
        super().__init__()
        upstream = task.upstream
        config = model.TransformerConfig(
            {
                "hidden_size": upstream.hidden_size,
                "num_hidden_layers": upstream.num_layers,
                "num_attention_heads": upstream.layers[0].attention.num_heads,
                "intermediate_size": upstream.layers[0].expand.out_features,
                "hidden_act": "gelu",
                "hidden_dropout_prob": dropout,
                "attention_probs_dropout_prob": dropout,
                "initializer_range": 0.02,
                "layer_norm_eps": 1e-12,
                "share_layer": False,
                "pre_layer_norm": False,
            }
        )
        self.encoder = model.TransformerModel(config, upstream.num_features)
        self.encoder.load_state_dict(upstream_to_published(upstream))
        self.head = model.TransformerSpecPredictionHead(config, upstream.num_features)
        self.head.load_state_dict(head_to_published(upstream, task.head))
        self.loss = nn.L1Loss()

    def forward(
        self, altered: torch.Tensor, clean: torch.Tensor, label: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        B, T, _ = altered.shape
        positions = sinusoids(T, self.head.dense.in_features).expand(B, -1, -1)
        keep = (torch.arange(T) < lengths[:, None]).float()
        hidden = self.encoder(altered, positions, keep, output_all_encoded_layers=False)
        predicted, _ = self.head(hidden)
        return self.loss(predicted.masked_select(label), clean.masked_select(label))


def updater(module: nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 5.0)
    optimizer.step()
    optimizer.zero_grad()


def main() -> None:
    given = arguments(__doc__.splitlines()[0], clips=4, dropout=0.1, precision="fp32")
    model = peer("s3prl.upstream.mockingjay.model")
    torch.manual_seed(0)
    task = TeraPretraining(Tera(dropout=given.dropout, attention_dropout=given.dropout))
    theirs = Theirs(model, task, given.dropout)
    frames = round(given.seconds * 100)
    lengths = torch.full((given.clips,), frames)
    lengths[-1] = frames * 4 // 5
    clean = torch.randn(given.clips, frames, 80) * (torch.arange(frames) < lengths[:, None])[:, :, None]
    altered = task.alteration(clean, lengths, torch.arange(given.clips))

    def our_loss() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=given.precision == "bf16"):
            predicted = task.reconstruct(altered.features, lengths)
        return masked_error("l1", predicted, clean, altered.label)[0]

    def their_loss() -> torch.Tensor:
        return theirs(altered.features, clean, altered.label, lengths)

    difference = compare(task, theirs, altered, clean, lengths)
    mine = torch.optim.AdamW(decay_groups(task, 0.01), lr=RATE, fused=True)
    other = peer("s3prl.optimizers").get_optimizer(
        [theirs], total_steps=10_000, optimizer_config={"name": "AdamW_with_schedule", "lr": RATE}
    )
    sides = {
        "s3prl": lambda: updater(theirs, other, their_loss()),
        "speechssl": lambda: updater(task, mine, our_loss()),
    }
    seconds = interleave(sides, given.rounds)
    title = f"TERA base step, {given.clips} x {frames} frames, dropout {given.dropout:g}, {given.precision}"
    report(title, seconds, f"relative difference of losses {difference:.1e} (float32, no dropout)", given)


@torch.no_grad()
def compare(task: TeraPretraining, theirs: Theirs, altered: tuple, clean: torch.Tensor, lengths: torch.Tensor) -> float:
    """Return the relative difference of both losses without dropout; end the program if it is too large."""
    task.eval()
    theirs.eval()
    ours = masked_error("l1", task.reconstruct(altered.features, lengths), clean, altered.label)[0]
    expected = theirs(altered.features, clean, altered.label, lengths)
    difference = float((ours / expected - 1).abs())
    if not difference <= TOLERANCE:
        raise SystemExit(f"the losses differ by {difference:.1e}: nothing was timed")
    task.train()
    theirs.train()
    return difference


if __name__ == "__main__":
    main()
