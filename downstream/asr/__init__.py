"""Speech recognition: characters by CTC, with a language model if wanted (word error rate)."""

from speechssl.downstream.asr.task import SpeechRecognition

TASK = SpeechRecognition
