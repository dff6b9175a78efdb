"""Tasks on any upstream, frozen or fine-tuned: learning-rate grid, intervals, table."""

from omegaconf import DictConfig, OmegaConf

from speechssl.commands.console import start


def run(cfg: DictConfig) -> None:
    """Run what is missing and print the table of all that was asked for."""
    from rich.console import Console

    from speechssl.probe.runner import benchmark
    from speechssl.probe.table import rich_table

    start(cfg.num_threads)
    settings = {key: value for key, value in OmegaConf.to_container(cfg).items() if key != "num_threads"}
    rows = benchmark(**settings)
    Console().print(rich_table(rows))
    print(f"rows: {cfg.run_dir}/results.jsonl, table: {cfg.run_dir}/results.md")
