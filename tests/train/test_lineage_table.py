"""The lineage as a table: one row per stage, no empty columns."""

from speechssl.train.lineage_table import NOTE, lineage_table


def test_rows_and_columns() -> None:
    entries = [
        {"name": "tokenizer-1", "facts": {"codebook": {"used": 12, "perplexity": 7.891}, "labels_seen": False}},
        {"name": "encoder-1", "facts": {"step": 20, "loss": 3.0, "dev_loss": 2.5, "labels_seen": None}},
    ]
    assert lineage_table(entries).splitlines() == [
        "| stage | steps | loss | codes used | perplexity | labels seen |",
        "| --- | --- | --- | --- | --- | --- |",
        "| tokenizer-1 | – | – | 12 | 7.89 | no |",
        "| encoder-1 | 20 | 2.5 | – | – | – |",
        "",
        NOTE,
    ]
