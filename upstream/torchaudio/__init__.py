"""The wav2vec 2.0, HuBERT and WavLM bundles of torchaudio, as torchaudio:BUNDLE (HUBERT_BASE, WAVLM_LARGE, ...)"""

from speechssl.upstream.torchaudio import bundles as FOREIGN
from speechssl.upstream.torchaudio.model import Torchaudio

__all__ = ["FOREIGN", "Torchaudio"]
