"""Speech recognition: characters by CTC, without a language model (word error rate)."""

from speechssl.downstream.asr.task import SpeechRecognition

TASK = SpeechRecognition
