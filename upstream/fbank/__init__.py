"""Kaldi filter banks with deltas, normalised per utterance: SUPERB's FBANK baseline, nothing is learned."""

from speechssl.upstream.fbank.model import Fbank

UPSTREAM = Fbank
