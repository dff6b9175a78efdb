"""Model card of a run directory, an exported folder or a result of a benchmark: README.md beside the weights.

Pretraining and `convert` write one by themselves; this command writes it anew, with rows of benchmarks that are about
the same weights, and with a licence. All of it comes from files; what no file tells is left out.
"""

from omegaconf import DictConfig

from speechssl.commands.console import start


def run(cfg: DictConfig) -> None:
    """Write the card and say where."""
    from speechssl.deploy.card import write_card

    start()
    print(f"wrote {write_card(cfg.run, list(cfg.results), cfg.out, cfg.licence, origin=cfg.origin)}")
