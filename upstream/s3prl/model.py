"""An s3prl upstream behind our contract: its hidden states, its frames, every utterance on its own.

s3prl (Yang et al., 2021, https://arxiv.org/abs/2105.01051; https://github.com/s3prl/s3prl) pads a batch with zeros, and
many of its upstreams let that padding into valid frames or round the number of frames by the longest of the batch. Here
every utterance is encoded alone, so that its states and its length are its own; s3prl's runner on the same batch may
therefore differ near the end of the shorter utterances, and its `S3PRLUpstream` repeats or cuts a frame to get
ceil(samples / downsample_rate) of them, which is not done here.
"""

from typing import Any

import torch
from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.interfaces import Features, Upstream
from speechssl.nn.one_by_one import encode_one_by_one

SLACK = 4  # frames by which layers of one upstream may differ, as in s3prl: the surplus is cut


class S3prl(Upstream):
    """What an s3prl upstream gives under "hidden_states", in its order.

    The first is taken for the input of the first layer, so that num_layers is one less than their number. Most
    upstreams mean it that way; a few (SSAST, for one) give outputs of layers only.

    Args:
        expert: s3prl's module: a list of 1-D waveforms in, a dict with "hidden_states" out.
        config: what tells which model it is.
    """

    def __init__(self, expert: nn.Module, config: dict[str, Any]):
        super().__init__()
        self.expert = expert.eval()
        self.config = config
        with torch.no_grad():
            states = self._states(torch.randn(1, self.sample_rate, generator=torch.Generator().manual_seed(0)))
        self.num_layers = len(states) - 1
        self.hidden_size = self._only({h.shape[-1] for h in states}, "hidden sizes")
        rates = expert.get_downsample_rates("hidden_states")
        self.downsample_rate = int(
            self._only(set(rates if isinstance(rates, list | tuple) else [rates]), "frame rates")
        )

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Features:
        return encode_one_by_one(self._states, waveforms, lengths)

    def _states(self, waveform: Tensor) -> list[Tensor]:
        """Return the hidden states (1, T, D) of one waveform (1, S)."""
        result = self.expert([waveform[0]])
        states = list(result.get("hidden_states", ()))
        if not states:
            found = ", ".join(result) or "nothing"
            raise UserError(
                f"s3prl:{self.config['name']} gives no hidden states, only {found}; it cannot be an upstream"
            )
        frames = [h.shape[1] for h in states]
        if max(frames) - min(frames) > SLACK:
            self._only(set(frames), "numbers of frames")
        return [h[:, : min(frames)] for h in states]

    def _only(self, values: set[int], what: str) -> int:
        if len(values) > 1:
            found = ", ".join(map(str, sorted(values)))
            raise UserError(
                f"the layers of s3prl:{self.config['name']} have different {what} ({found}); expected one, "
                "so that they can be mixed; choose another upstream"
            )
        return values.pop()
