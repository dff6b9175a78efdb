"""One row of a benchmark again, from what the row itself says; tells whether it is equal to the last digit."""

from omegaconf import DictConfig

from speechssl.commands.console import start


def run(cfg: DictConfig) -> None:
    """Compute the row, and print what differs."""
    from speechssl.probe.reproduce import reproduce

    start()
    found = reproduce(cfg.row, cfg.out, cfg.cache)
    main = found.row["main_metric"]
    before, now = found.row["metrics"][main], found.again["metrics"][main]
    print(f"{found.row['upstream']} on {found.row['task']}: {main} was {before!r}, is {now!r}")
    if not found.differences:
        print("equal to the last digit: metrics, interval, learning rates, curves and layer weights")
    for name, (old, new) in found.differences.items():
        print(f"{name} was {old}, is {new}")
    if found.differences and cfg.cache is None:
        print(
            "features of several tasks are encoded together, in other batches than here, which changes their rounding; "
            "with cache=FOLDER of that benchmark's features the rest must be equal"
        )
