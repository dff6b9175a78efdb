"""What every command does first: log to the terminal, and use the CPU threads it was given."""

import logging

from speechssl.errors import UserError


def start(num_threads: int | None = None) -> None:
    """Show log lines from INFO on, and set PyTorch's threads where a number is given."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("speechssl").setLevel(logging.INFO)
    if num_threads is not None:
        import torch

        if type(num_threads) is not int or num_threads < 1:
            raise UserError(f"num_threads expects a whole number from 1 on, found {num_threads!r}")
        torch.set_num_threads(num_threads)
