"""Emotion recognition: in which mood an utterance is spoken (accuracy)."""

from speechssl.downstream.er.task import EmotionRecognition

TASK = EmotionRecognition
