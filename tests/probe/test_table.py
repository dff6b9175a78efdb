from io import StringIO

from rich.console import Console

from speechssl.probe.table import caveats, cells, markdown, rich_table


def row(upstream: str, value: float, task: str = "ks", **changes: object) -> dict:
    metric, mode = ("wer", "min") if task == "asr" else ("acc", "max")
    names = {
        "upstream": upstream,
        "task": task,
        "protocol": "base",
        "corpus": "c",
        "view": "",
        "fold": "",
        "seed": 0,
    }
    numbers = {
        "metrics": {metric: value},
        "ci95": [value - 1, value + 1],
        "main_metric": metric,
        "mode": mode,
    }
    return names | numbers | changes


def test_the_best_of_each_column_is_bold_in_its_direction() -> None:
    rows = [row("a", 90.0), row("b", 95.0), row("a", 20.0, "asr"), row("b", 30.0, "asr")]
    assert markdown(rows).splitlines()[2:6] == [
        "| upstream | ks ACC ↑ (c, base) | asr WER ↓ (c, base) |",
        "| --- | --- | --- |",
        "| a | 90.0 [89.0, 91.0] | **20.0 [19.0, 21.0]** |",
        "| b | **95.0 [94.0, 96.0]** | 30.0 [29.0, 31.0] |",
    ]


def test_folds_and_seeds_are_averaged_and_missing_cells_shown() -> None:
    rows = [row("a", 90.0), row("a", 94.0, seed=1), row("b", 50.0, view="v", fold="x")]
    text = markdown(rows)
    assert "| a | 92.0 ± 2.8 (2) | – |" in text
    assert "(c/v, base)" in text
    assert len(cells(rows)) == 2


def test_the_terminal_table_keeps_brackets() -> None:
    output = StringIO()
    Console(file=output, width=100).print(rich_table([row("a[b]", 90.0), row("c", 80.0)]))
    assert "a[b]" in output.getvalue()
    assert "90.0 [89.0, 91.0]" in output.getvalue()


def test_rows_of_one_column_that_were_made_differently_are_pointed_out() -> None:
    short = {"upstream": "a", "seed": 0, "standardize": False, "arguments": {"steps": 12, "lrs": [0.1, 0.01]}}
    long = short | {"upstream": "b", "seed": 1, "arguments": {"lrs": [0.1, 0.01]}}
    assert caveats([row("a", 90.0, config=short), row("b", 80.0, config=short | {"upstream": "b"})]) == ""
    assert caveats([row("a", 90.0, config=short), row("a", 90.0, "asr", config=long)]) == ""
    rows = [row("a", 90.0, config=short), row("b", 80.0, config=long)]
    assert caveats(rows) == "Not all alike in ks (base): steps (12 and default)."
    assert markdown(rows).endswith("\n\nNot all alike in ks (base): steps (12 and default).\n")
    output = StringIO()
    brackets = [row("c", 1.0, config=short | {"arguments": {"steps": 12, "lrs": [0.5]}})]
    Console(file=output, width=400).print(rich_table(rows + brackets))
    assert "lrs ([0.1, 0.01] and [0.5])" in " ".join(output.getvalue().split())
