"""Kaldi filter banks with deltas and per-utterance normalisation: SUPERB's FBANK baseline, nothing is learned."""

from speechssl.upstream.fbank.model import Fbank

UPSTREAM = Fbank
