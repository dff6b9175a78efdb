"""Sentiment analysis: whether what is said is positive, neutral or negative (macro F1)."""

from speechssl.downstream.sentiment.task import SentimentAnalysis

TASK = SentimentAnalysis
