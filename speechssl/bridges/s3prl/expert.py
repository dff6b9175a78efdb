"""One of our encoders with the interface of an s3prl upstream: a list of waveforms in, padded hidden states out.

s3prl (Yang et al., 2021, https://arxiv.org/abs/2105.01051; https://github.com/s3prl/s3prl) counts
ceil(samples / downsample_rate) frames for every utterance. Its `S3PRLUpstream` gets them by repeating or cutting the
last frame of the padded batch, which for all but the longest utterance is a frame of padding. Here every utterance is
brought to that number by itself, so that what a batch gives is what s3prl would have given for each utterance alone.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.hub import load_upstream

SAMPLE_RATE = 16000  # Hz, of all audio in s3prl


class UpstreamExpert(nn.Module):
    """What s3prl's hub, `S3PRLUpstream` and runner expect of an upstream.

    Args:
        ckpt: whatever `load_upstream` takes: a run directory, an exported folder, "tera:FILE", "fbank", ...
        model_config: s3prl's `-g`; not used here, and refused.
        refresh: s3prl's `-r`; nothing is downloaded that could be downloaded again.
        settings: constructor arguments of the encoder that replace those of the checkpoint (s3prl's `extra_conf`).

    Raises:
        UserError: no or an unknown encoder, settings it does not have, or one that expects another sampling rate.
    """

    def __init__(
        self, ckpt: str | None = None, model_config: str | None = None, refresh: bool = False, **settings: Any
    ) -> None:
        super().__init__()
        if not ckpt:
            raise UserError(
                "this upstream asks for an encoder: a run directory, or any name that load_upstream takes; "
                'say -k RUN_DIR to s3prl\'s runner, or S3PRLUpstream("speechssl_local", path_or_url=RUN_DIR)'
            )
        if model_config is not None:
            raise UserError(f"-g {model_config}: an encoder of speechssl brings its configuration; leave -g out")
        self.upstream = load_upstream(str(ckpt), **settings).requires_grad_(True)
        if self.upstream.sample_rate != SAMPLE_RATE:
            raise UserError(f"{ckpt} expects {self.upstream.sample_rate} Hz, s3prl's audio has {SAMPLE_RATE} Hz")

    def get_downsample_rates(self, key: str) -> int:
        """Return samples per frame, the same for every hidden state."""
        return self.upstream.downsample_rate

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, list[Tensor] | Tensor]:
        """Return hidden states (B, T, D), under their names in s3prl, of waveforms (S,).

        T is ceil(S / downsample_rate) of the longest. A row that has fewer frames repeats its last one.
        """
        waveforms = [wav.flatten() for wav in wavs]
        states, frames = self.upstream(waveforms)
        samples = frames.new_tensor([len(waveform) for waveform in waveforms])
        wanted = (samples + self.upstream.downsample_rate - 1) // self.upstream.downsample_rate  # as s3prl counts
        states = [repeated(state, frames, int(wanted.max())) for state in states]
        numbered = {f"hidden_state_{number}": state for number, state in enumerate(states)}
        return {"hidden_states": states, "last_hidden_state": states[-1], **numbered}


def repeated(state: Tensor, frames: Tensor, total: int) -> Tensor:
    """Return (B, total, D) of a (B, T, D) whose rows have (B,) valid frames, their last frames repeated."""
    index = torch.arange(total, device=state.device).minimum(frames[:, None] - 1)  # (B, total)
    return state.gather(1, index[:, :, None].expand(-1, -1, state.shape[2]))
