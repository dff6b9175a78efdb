"""What every command does first: log to the terminal, and use the CPU threads it was given."""

import logging


def start(num_threads: int | None = None) -> None:
    """Show log lines from INFO on, and set PyTorch's threads where a number is given."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("speechssl").setLevel(logging.INFO)
    if num_threads is not None:
        import torch

        torch.set_num_threads(int(num_threads))
