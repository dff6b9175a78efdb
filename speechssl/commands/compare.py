"""Systems against baselines over several benchmark runs, with paired bootstrap intervals."""

from omegaconf import DictConfig, OmegaConf

from speechssl.commands.console import start


def run(cfg: DictConfig) -> None:
    """Print the comparison, and write it where `out` says."""
    from speechssl.probe.compare import compare, markdown

    start()
    settings = OmegaConf.to_container(cfg)
    runs, baselines = (
        [value] if isinstance(value, str) else value for value in (settings["runs"], settings["baseline"])
    )
    print(markdown(compare(runs, baselines, settings["out"], settings["seed"])))
