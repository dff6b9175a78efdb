"""TERA's objective: reconstruct the clean frames from their altered copy, with an L1 loss where something was
hidden.

Liu, Li and Lee, 2021, https://arxiv.org/abs/2007.06028. The loss is one mean over all hidden elements of the
batch, so that long utterances and broad blocks weigh more, as in the authors' code.
"""

import torch
from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.interfaces import Batch, PretrainTask
from speechssl.losses.masked import masked_error, masked_mean
from speechssl.upstream.tera.alteration import Alteration, Altered
from speechssl.upstream.tera.model import Tera, initialize

PICTURES = 4  # utterances per snapshot


class PredictionHead(nn.Module):
    """Two layers from hidden states (B, T, D) to features (B, T, F); discarded after pretraining."""

    def __init__(self, hidden_size: int, num_features: int, layer_norm_eps: float):
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.output = nn.Linear(hidden_size, num_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.norm(nn.functional.gelu(self.dense(x))))


class TeraPretraining(PretrainTask):
    """Alteration, encoder, head and loss. The metrics tell whether the model learns to look at neighbouring
    frames.

    Args:
        upstream: the encoder.
        loss: "l1" or "mse".
        others: settings of the alterations, see `Alteration`. For time and frequency only, set
            `noise_proportion=0`.
    """

    upstream: Tera

    def __init__(
        self,
        upstream: Tera,
        loss: str = "l1",
        mask_proportion: float = 0.15,
        mask_consecutive_min: int = 7,
        mask_consecutive_max: int = 7,
        mask_allow_overlap: bool = True,
        mask_bucket_ratio: float = 1.5,
        mask_frequency: float = 0.2,
        noise_proportion: float = 0.15,
        noise_std: float = 0.2,
        noise_per: str = "batch",
    ):
        super().__init__()
        if loss not in ("l1", "mse"):
            raise UserError(f"unknown TERA loss {loss!r}; known: l1, mse")
        self.upstream = upstream
        self.loss = loss
        self.alteration = Alteration(
            mask_proportion=mask_proportion,
            mask_consecutive_min=mask_consecutive_min,
            mask_consecutive_max=mask_consecutive_max,
            mask_allow_overlap=mask_allow_overlap,
            mask_bucket_ratio=mask_bucket_ratio,
            mask_frequency=mask_frequency,
            noise_proportion=noise_proportion,
            noise_std=noise_std,
            noise_per=noise_per,
        )
        self.head = PredictionHead(upstream.hidden_size, upstream.num_features, upstream.input_norm.eps)
        initialize(self.head, upstream.initializer_range)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss over hidden elements, their number, and how well time spans are reconstructed.

        "l1_time" is the L1 inside time spans, "zero_ratio" the same divided by the L1 of predicting zeros
        there (the mean of each channel, after normalisation). A ratio that stays above 0.8 says that the
        model does not yet use neighbouring frames; on spoken digits, drawing a straight line across each span
        gave 0.4 to 0.5.
        """
        clean, lengths = self.upstream.features(batch.waveforms, batch.lengths, batch.rms)
        if batch.empty:
            lengths = torch.zeros_like(lengths)
        altered = self.alteration(clean, lengths, batch.seeds)
        return self.score(self.reconstruct(altered.features, lengths), clean, altered)

    def reconstruct(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Return predicted clean features (B, T, F) for altered ones."""
        return self.head(self.upstream.transform(features, lengths)[-1])

    def score(self, predicted: Tensor, clean: Tensor, altered: Altered) -> dict[str, Tensor]:
        """Return loss, weight and metrics of predictions (B, T, F), given clean and altered features."""
        loss, count = masked_error(self.loss, predicted, clean, altered.label)
        result = {"loss": loss, "weight": count.detach()}
        if self.alteration.mask_proportion == 0:
            return result
        with torch.no_grad():
            error = masked_mean((predicted.float() - clean).abs().mean(-1), altered.time)
            silence = masked_mean(clean.abs().mean(-1), altered.time)
            ratio = torch.where(silence > 0, error / silence.clamp(min=1e-8), 1.0)  # nothing hidden: no evidence
        return result | {"l1_time": error, "zero_ratio": ratio}

    @torch.no_grad()
    def snapshot(self, batch: Batch) -> dict[str, Tensor]:
        """Return "clean", "altered", "reconstructed" features (N, T, F) and "lengths" (N,) of a few."""
        training = self.training
        self.eval()
        clean, lengths = self.upstream.features(batch.waveforms, batch.lengths, batch.rms)
        altered = self.alteration(clean, lengths, batch.seeds)
        reconstructed = self.reconstruct(altered.features, lengths).float()
        self.train(training)
        arrays = {
            "clean": clean,
            "altered": altered.features,
            "reconstructed": reconstructed,
            "lengths": lengths,
        }
        arrays = {name: array[:PICTURES] for name, array in arrays.items()}
        if clean.shape[2] == len(self.upstream.frontend.centres_hz):  # with deltas, channels are not frequencies
            arrays["hertz"] = self.upstream.frontend.centres_hz
        return arrays
