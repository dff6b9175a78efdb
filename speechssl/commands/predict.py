"""A trained task on any audio: files, folders, patterns, stdin; answers as JSON lines or CSV.

`run=` is a result of `speechssl benchmark`, frozen or fine-tuned. A row has the path, the task and the answer: a label
with scores, text, or segments with times. A file that cannot be read has a row with "error"; the exit code is 2 only
where not one could be answered.
"""

from omegaconf import DictConfig, OmegaConf

from speechssl.commands.console import start

WINDOWS = ("window_seconds", "hop_seconds", "whole_seconds")


def run(cfg: DictConfig) -> None:
    """Answer all inputs; stdout has rows and nothing else."""
    from speechssl.deploy.pieces import Windows
    from speechssl.deploy.predict import predict

    start(cfg.num_threads)
    settings = {key: value for key, value in OmegaConf.to_container(cfg).items() if key != "num_threads"}
    predict(**{k: v for k, v in settings.items() if k not in WINDOWS}, windows=Windows(*(cfg[k] for k in WINDOWS)))
