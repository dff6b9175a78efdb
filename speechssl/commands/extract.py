"""Hidden states of any upstream to disk, sharded and resumable."""

from omegaconf import DictConfig, OmegaConf

from speechssl.commands.console import start


def run(cfg: DictConfig) -> None:
    """Extract and print where the features are."""
    from speechssl.extract.run import extract

    start(cfg.num_threads)
    settings = {key: value for key, value in OmegaConf.to_container(cfg).items() if key != "num_threads"}
    summary = extract(**settings)
    skipped = f", {len(summary['skipped'])} unreadable left out" if summary["skipped"] else ""
    print(f"{summary['utterances']} utterances, {summary['frames']} frames in {cfg.out}{skipped}")
