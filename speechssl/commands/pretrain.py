"""Pretrain a family on unlabelled audio; the same command continues an interrupted run.

`run_dir` receives checkpoints, metrics.jsonl, TensorBoard, pictures and, in the end, `export/`, which
`load_upstream(run_dir)` reads. SIGTERM saves a checkpoint and ends with status 143. Several devices:
`torchrun --nproc_per_node=2 -m speechssl.commands.main pretrain ...`.
"""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from speechssl.commands.console import start


def run(cfg: DictConfig) -> None:
    """Build model, objective and data, and train."""
    from speechssl.configs import arguments
    from speechssl.data.several import open_corpora
    from speechssl.train.pretraining import Pretraining
    from speechssl.train.stages import build_stages, run_stages

    start(cfg.trainer.num_threads)
    corpus = open_corpora(OmegaConf.to_container(cfg)["data"])
    family = cfg.upstream._target_.split(".")[2]
    upstream, task = arguments(cfg.upstream), arguments(cfg.task)
    config = OmegaConf.to_container(cfg, resolve=True)
    pretraining = Pretraining(
        corpus,
        trainer=config["trainer"],
        optim=config["optim"],
        model={"family": family, "upstream": upstream, "task": task},
        seed=cfg.seed,
        init_from=cfg.init_from,
        config=config,
    )
    stages = build_stages(family, upstream, task, cfg.seed)
    run_stages(stages, Path(cfg.run_dir), pretraining.train, config=config, data_fingerprint=corpus.fingerprint)
