"""Vector quantiser on the unit sphere whose codebook follows the data by exponential moving averages.

The quantiser of BEiT v2 (Peng et al., 2022, https://arxiv.org/abs/2208.06366) and of BEATs' tokenizers: vectors and
codes have unit norm, the closest code has the largest dot product, and a code that was used moves to the mean of
the vectors that chose it by the same fraction however many they were.

Differs from the authors' code: padding counts nowhere, evaluation changes nothing, and the codebook is updated once
per optimizer step by `update`, from the sums over all micro-batches and ranks, so that accumulation and data
parallelism equal one large batch.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from speechssl.errors import UserError
from speechssl.nn.kmeans import nearest, sums_by_code
from speechssl.nn.random import uniform

UNUSED = 0.01  # a code with less than this share of an even use is called dead


class Quantized(NamedTuple):
    """What becomes of vectors (..., d)."""

    vectors: Tensor  # (..., d) codes; their gradient goes to the unit vectors as if nothing had happened
    codes: Tensor  # (...) int64
    commitment: Tensor  # scalar: mean squared difference of unit vectors and codes, over valid vectors and all d
    unit: Tensor  # (..., d) unit vectors, detached


class VectorQuantizer(nn.Module):
    """Codebook of V unit vectors.

    Args:
        num_codes: V.
        code_size: d.
        decay: of the moving averages, per optimizer step.
    """

    def __init__(self, num_codes: int, code_size: int, decay: float = 0.99) -> None:
        super().__init__()
        if num_codes < 2 or code_size < 1 or not 0 <= decay < 1:
            raise UserError(
                f"a codebook needs at least 2 codes of at least 1 number, and a decay in [0, 1); found {num_codes} "
                f"codes of {code_size} and a decay of {decay}"
            )
        self.num_codes, self.decay = num_codes, decay
        self.register_buffer("codebook", torch.zeros(num_codes, code_size))
        self.register_buffer("cluster_size", torch.zeros(num_codes))  # average use per step, a statistic only
        self.register_buffer("initialised", torch.tensor(False))
        self.register_buffer("sums", torch.zeros(num_codes, code_size), persistent=False)  # of this step
        self.register_buffer("counts", torch.zeros(num_codes), persistent=False)
        self._ready = False

    @property
    def ready(self) -> bool:
        """Whether the codebook holds anything."""
        if not self._ready:  # looked up until it is: on a GPU that waits for the device
            self._ready = bool(self.initialised)
        return self._ready

    @torch.no_grad()
    def initialise(self, codebook: Tensor, counts: Tensor) -> None:
        """Begin with these codes (V, d), which are normalised, and this use (V,) of each."""
        self.codebook.copy_(F.normalize(codebook.float(), dim=-1))
        self.cluster_size.copy_(counts)
        self.initialised.fill_(True)

    def forward(self, vectors: Tensor, valid: Tensor) -> Quantized:
        """Quantise vectors (..., d), of which those with `valid` (...) count; in training mode note their use.

        Raises:
            UserError: the codebook has not been initialised.
        """
        with torch.autocast(vectors.device.type, enabled=False):
            unit = F.normalize(vectors.float(), dim=-1)
            codes = self.lookup(unit)
            chosen = self.codebook[codes]
            error = (unit - chosen).square().mean(dim=-1)
            commitment = (error * valid).sum() / valid.sum().clamp(min=1)
            flat = unit.detach().flatten(0, -2)
            if self.training:
                sums, counts = sums_by_code(flat, codes.flatten(), self.num_codes, valid.flatten())
                self.sums += sums
                self.counts += counts
            return Quantized(unit + (chosen - unit).detach(), codes, commitment, unit.detach())

    def lookup(self, vectors: Tensor) -> Tensor:
        """Return the closest codes (...) of vectors (..., d), whatever their length."""
        if not self.ready:
            raise UserError("the codebook has not been initialised: train the tokenizer, or load a trained one")
        return nearest(vectors.float(), self.codebook, unit=True)

    @torch.no_grad()
    def update(self) -> Tensor:
        """Move the codes towards what chose them since the last call, on all ranks; return the counts (V,)."""
        sums, counts = self.sums.clone(), self.counts.clone()
        self.sums.zero_()
        self.counts.zero_()
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
            distributed.all_reduce(counts)
        used = counts[:, None] > 0
        moved = F.normalize(torch.lerp(F.normalize(sums, dim=-1), self.codebook, self.decay), dim=-1)
        self.codebook.copy_(torch.where(used, moved, self.codebook))
        self.cluster_size.mul_(self.decay).add_(counts, alpha=1 - self.decay)
        return counts

    def dead(self) -> Tensor:
        """Return the share (scalar) of codes that are hardly used any more."""
        return (self.cluster_size < UNUSED * self.cluster_size.mean()).float().mean()

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:
        super()._load_from_state_dict(state, prefix, *others)
        self._ready = False


class DeadCodes(nn.Module):
    """Gives codes that nobody has chosen for a while a vector of the present step.

    It belongs to the training, not to the tokenizer. Neither BEATs nor BEiT v2 has it.

    Args:
        num_codes, code_size: V and d.
        patience: optimizer steps without use after which a code is replaced; 0 never replaces one.
    """

    def __init__(self, num_codes: int, code_size: int, patience: int) -> None:
        super().__init__()
        if patience < 0:
            raise UserError(f"dead_code_reset_steps expects a number of steps, or 0 for never; found {patience}")
        self.patience = patience
        self.register_buffer("idle", torch.zeros(num_codes, dtype=torch.long))  # steps since each was used
        self.register_buffer("offers", torch.zeros(num_codes, code_size), persistent=False)
        self.register_buffer("offered", torch.zeros(()), persistent=False)

    @torch.no_grad()
    def offer(self, unit: Tensor, valid: Tensor, seeds: Tensor, stream: int) -> None:
        """Keep V of the unit vectors (..., d) that are `valid` (...), drawn with the seed of the first utterance."""
        total = valid.flatten().long().cumsum(0)
        place = (uniform(seeds[:1], stream, len(self.offers))[0] * total[-1]).long()  # among the valid ones
        index = torch.searchsorted(total, place, right=True).clamp(max=len(total) - 1)
        self.offers.copy_(unit.flatten(0, -2)[index])
        self.offered.copy_((total[-1] > 0).float())

    @torch.no_grad()
    def replace(self, quantizer: VectorQuantizer, counts: Tensor) -> None:
        """Replace codes that `counts` (V,), the use in this step, leaves idle for too long. Same on all ranks."""
        self.idle.add_(1).masked_fill_(counts > 0, 0)
        self._share()
        dead = (self.idle >= self.patience) & (self.offered > 0)
        quantizer.codebook.copy_(torch.where(dead[:, None], self.offers, quantizer.codebook))
        self.idle.masked_fill_(dead, 0)
        self.offered.zero_()

    def _share(self) -> None:
        """Take the offers of the lowest rank that has any."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return
        everyone = [torch.zeros_like(self.offered) for _ in range(distributed.get_world_size())]
        distributed.all_gather(everyone, self.offered)
        source = int(torch.stack(everyone).argmax())
        distributed.broadcast(self.offers, src=source)
        self.offered.copy_(everyone[source])
