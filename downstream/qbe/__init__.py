"""Query by example: which documents hold a spoken query, without any training (maximum term-weighted value)."""

from speechssl.downstream.qbe.task import QueryByExample

TASK = QueryByExample
