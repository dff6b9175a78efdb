"""Named entity recognition: phrases with tags found in speech by CTC (micro F1)."""

from speechssl.downstream.ner.task import NamedEntities

TASK = NamedEntities
