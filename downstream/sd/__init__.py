"""Diarization: who speaks when in a conversation (diarization error rate)."""

from speechssl.downstream.sd.task import Diarization

TASK = Diarization
