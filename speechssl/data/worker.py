"""What every worker process of a data loader does first."""

import os
import signal
import threading

import torch


def start_worker(worker: int) -> None:
    """Use one CPU thread, and end only at the word of the main process."""
    torch.set_num_threads(1)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_parent_says, daemon=True).start()


def _end_when_the_parent_says() -> None:
    """Pass over a SIGTERM to the whole group: the main process still wants batches while it saves and stops.

    Ignoring the signal altogether would hang the main process, which ends its last workers with it at exit.
    """
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
