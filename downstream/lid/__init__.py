"""Language identification: which language is spoken (accuracy)."""

from speechssl.downstream.lid.task import LanguageIdentification

TASK = LanguageIdentification
