"""Our encoders for MTEB and its audio part MAEB, which compare embeddings of whole recordings.

https://github.com/embeddings-benchmark/mteb (package `mteb`, from 2.0 on). An encoder there takes batches of
recordings and gives one vector for each:

    import mteb
    from speechssl.bridges.mteb import MtebEncoder

    mteb.evaluate(MtebEncoder("runs/mine"), mteb.get_tasks(tasks=["ESC50"]))

The vector is the mean of a hidden state over the frames of the recording, padding left out. Nothing is cut off.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechssl.audio.resampling import resample
from speechssl.bridges.layers import check_layer, chosen
from speechssl.bridges.repository import from_pretrained
from speechssl.errors import UserError
from speechssl.hub import load_upstream, weights_sha256
from speechssl.nn.padding import lengths_to_mask

Row = dict[str, Any]  # "audio": {"array": samples, "sampling_rate": Hz}; other columns stay away


class MtebEncoder:
    """What MTEB calls an encoder; its own class is not needed for that.

    Args:
        model_name: whatever `load_upstream` takes; with `revision` a repository of the Hugging Face Hub.
        revision: branch, tag or commit of a repository.
        device: "cpu", "cuda", ...; None is a GPU where there is one.
        layer: the hidden state, -1 is the last; "mean" is the mean of all.
        label: the name of the results, ORGANISATION/NAME; None makes one of `model_name`.
        settings: constructor arguments of the encoder that replace those of the checkpoint.
    """

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        *,
        device: str | None = None,
        layer: int | str = -1,
        label: str | None = None,
        **settings: Any,
    ) -> None:
        model = from_pretrained(model_name, revision, **settings) if revision else load_upstream(model_name, **settings)
        check_layer(layer, model.num_layers)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.layer, self.sha256 = layer, weights_sha256(model)
        self.label = label or f"speechssl/{Path(model_name).name}"
        self.model = model.to(self.device)

    def encode(self, inputs: Iterable[Row], *, show_progress_bar: bool = False, **context: Any) -> np.ndarray:
        """Return one vector per recording, (N, D) float32.

        Args:
            inputs: MTEB's DataLoader; its `collate_fn` is replaced, so that recordings come resampled, each with its
                own length.
            show_progress_bar: not used.
            context: which task, split and subset this is; all are encoded alike.
        """
        inputs.collate_fn = self.collated
        with torch.no_grad():
            return np.concatenate([self.pooled(waveforms) for waveforms in inputs])

    def collated(self, rows: list[Row]) -> list[Tensor]:
        """Return mono waveforms (S,) at the encoder's rate."""
        waveforms = []
        for row in rows:
            if row.get("audio") is None:
                raise UserError(f"expected recordings in the column 'audio', found the columns {', '.join(row)}")
            samples = np.asarray(row["audio"]["array"], dtype=np.float32)
            samples = samples.mean(axis=0) if samples.ndim > 1 else samples
            rate = int(row["audio"]["sampling_rate"])
            waveforms.append(torch.from_numpy(np.ascontiguousarray(resample(samples, rate, self.model.sample_rate))))
        return waveforms

    def pooled(self, waveforms: list[Tensor]) -> np.ndarray:
        """Return the mean over frames of the chosen hidden state, (B, D) float32, of waveforms (S,)."""
        states, frames = self.model([waveform.to(self.device) for waveform in waveforms])
        state = chosen(states, self.layer)
        mask = lengths_to_mask(frames, state.shape[1])[:, :, None]
        return ((state * mask).sum(1) / mask.sum(1)).float().cpu().numpy()

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Return the cosine (N, M) of every vector of (N, D) with every one of (M, D)."""
        return _unit(embeddings1) @ _unit(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Return the cosine (N,) of each vector of (N, D) with its partner of (N, D)."""
        return (_unit(embeddings1) * _unit(embeddings2)).sum(-1)

    @cached_property
    def mteb_model_meta(self) -> Any:
        """MTEB's ModelMeta: what results are filed under, and that the model hears audio only.

        Raises:
            UserError: mteb is missing.
        """
        try:
            from mteb.models import ModelMeta
        except ImportError as error:
            raise UserError("MTEB is missing; install it with: pip install 'mteb[audio]'") from error
        known = {
            "name": self.label,
            "revision": self.sha256[:16],  # other weights or settings are another revision
            "n_parameters": sum(p.numel() for p in self.model.parameters()),
            "embed_dim": self.model.hidden_size,
            "framework": ["PyTorch"],
            "similarity_fn_name": "cosine",
            "modalities": ["audio"],
            "experiment_kwargs": {"layer": self.layer},
        }
        return ModelMeta.create_empty(overwrites=known)


def _unit(embeddings: Any) -> Tensor:
    vectors = torch.as_tensor(np.asarray(embeddings), dtype=torch.float32).reshape(-1, np.shape(embeddings)[-1])
    return torch.nn.functional.normalize(vectors, dim=-1)
