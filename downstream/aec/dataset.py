"""Where audio event classification finds its labels: the column `labels` (lists) of a prepared corpus, else `label`."""

from speechssl.data.cuts import Corpus
from speechssl.errors import UserError

LABEL = "label"
LABELS = "labels"


def find_column(corpus: Corpus, label: str | None, multi_label: bool | None) -> list[str | bool]:
    """Return the column with the labels, and whether it holds lists of them.

    Args:
        corpus: whose train split decides what was left open.
        label: the column, or None.
        multi_label: what the column has to hold, or None.

    Raises:
        UserError: the column holds something else than was asked for.
    """
    table = corpus.table("train")
    if label is None:
        label = LABELS if multi_label or (multi_label is None and LABELS in table.columns) else LABEL
    lists = [isinstance(value, list) for value in table.column(label) if value is not None]
    wanted = any(lists) if multi_label is None else multi_label
    columns = [corpus.table(split).column(label) for split in corpus.splits]
    values = [value for column in columns for value in column if value is not None]
    lists = [isinstance(value, list) for value in values]
    if lists.count(wanted) < len(lists):
        kinds = ("single labels", "lists of labels")
        raise UserError(
            f"audio event classification expects {kinds[wanted]} in the column {label!r} of {corpus.name}, found "
            f"{values[lists.index(not wanted)]!r}; name another column with label=COLUMN, or set task.multi_label"
        )
    return [label, wanted]
