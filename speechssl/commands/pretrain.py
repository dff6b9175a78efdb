"""Pretrain a family on unlabelled audio; the same command continues an interrupted run.

`run_dir` receives checkpoints, metrics.jsonl, TensorBoard, pictures and, in the end, `export/`, which
`load_upstream(run_dir)` reads, with a model card. SIGTERM saves a checkpoint and ends with status 143. Several devices:
`torchrun --nproc_per_node=2 -m speechssl.commands.main pretrain ...`.
"""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from speechssl.commands.console import start


def run(cfg: DictConfig) -> None:
    """Build model, objective and data, and train."""
    from speechssl.configs import arguments
    from speechssl.data.several import open_corpora
    from speechssl.deploy.card import write_cards
    from speechssl.lineage import load_teacher, open_left
    from speechssl.train.pretraining import Pretraining
    from speechssl.train.stages import build_stages, run_stages

    start(cfg.trainer.num_threads)
    corpus = open_corpora(OmegaConf.to_container(cfg)["data"])
    family = cfg.upstream._target_.split(".")[2]
    upstream, task = arguments(cfg.upstream), arguments(cfg.task)
    if cfg.iterations is not None:
        task["iterations"] = cfg.iterations
    if cfg.teacher is not None:
        task["teacher"] = load_teacher(cfg.teacher, family)
    config = OmegaConf.to_container(cfg, resolve=True)
    pretraining = Pretraining(
        corpus,
        trainer=config["trainer"],
        optim=config["optim"],
        model={"family": family, "upstream": upstream},
        seed=cfg.seed,
        init_from=cfg.init_from,
        config=config,
    )
    run_stages(
        build_stages(family, upstream, task, cfg.seed),
        Path(cfg.run_dir),
        pretraining.execute,
        open_left=open_left,
        stage_settings=pretraining.record_settings,
        config=config,
        data_fingerprint=corpus.fingerprint,
    )
    write_cards(cfg.run_dir, corpus)
