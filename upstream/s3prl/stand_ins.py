"""What s3prl 0.4.18 needs of its surroundings while one of its upstreams is made, and nothing of it afterwards.

- Names that torchaudio has given up (`set_audio_backend`, `sox_effects`): s3prl asks for them when it is imported, and
  needs them to read audio files, which it is never asked to do here.
- Checkpoints without code: some of its upstreams (TERA, Mockingjay, Audio ALBERT, DistilHuBERT, RoBERTa) say
  `torch.load(..., weights_only=False)` themselves, and would run whatever a file carries. PyTorch is told to refuse.
  Others (HuBERT, wav2vec 2.0, WavLM, ...) evaluate strings of the configuration inside the file, such as the list of
  convolutions, as Python: those that are more than numbers in brackets are refused.
- The global generators, standard output and the log: it draws from the first, and fills the others with what packages
  of other upstreams are missing.
"""

import argparse
import builtins
import contextlib
import io
import logging
import os
import random
import re
import sys
from collections.abc import Iterator
from typing import Any

import torch

from speechssl.errors import UserError
from speechssl.stand_ins import MISSING, quiet_log, replaced, torchaudio_names

logger = logging.getLogger(__name__)

PLAIN = re.compile(r"[\d\s.,()\[\]+*-]*|self[\w.\[\]]*|torchaudio\.compliance\.kaldi\.(fbank|mfcc|spectrogram)")
REFUSE, PERMIT = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


class Schedule:
    """Stands in for a learning-rate schedule inside the optimizer state of a checkpoint; nothing of it is used."""


SCHEDULES = ("ConstantLR", "WarmupConstantSchedule", "WarmupCosineSchedule", "WarmupLinearSchedule")
HARMLESS = [argparse.Namespace, *((Schedule, f"optimizers.{name}") for name in SCHEDULES)]


@contextlib.contextmanager
def surroundings(trust: bool) -> Iterator[None]:
    """Make s3prl importable and its upstreams constructible within the block.

    Args:
        trust: let checkpoints run the code that they carry.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torchaudio_names())
        stack.enter_context(replaced(sys.modules, "optimizers", MISSING))  # s3prl leaves it behind after an error
        stack.enter_context(replaced(os.environ, REFUSE, MISSING if trust else "1"))
        stack.enter_context(replaced(os.environ, PERMIT, "1" if trust else MISSING))
        stack.enter_context(torch.serialization.safe_globals(HARMLESS))
        if not trust:
            stack.enter_context(plain_expressions())
        stack.enter_context(untouched_generators())
        printed = stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(quiet_log("s3prl"))
        yield
    logger.debug("s3prl printed: %s", printed.getvalue())


@contextlib.contextmanager
def plain_expressions() -> Iterator[None]:
    """Refuse the expressions of checkpoints that are more than s3prl needs, where s3prl evaluates them."""
    evaluate = builtins.eval

    def guarded(source: Any, *scope: Any) -> Any:
        caller = sys._getframe(1)
        if caller.f_globals.get("__name__", "").startswith("s3prl.") and not PLAIN.fullmatch(str(source)):
            raise UserError(
                f"a setting inside the checkpoint is code and was refused, it was not run ({str(source)[:80]!r}); "
                "trust=true runs it, for a file whose makers you know"
            )
        return evaluate(source, *(scope or (caller.f_globals, caller.f_locals)))

    with replaced(vars(builtins), "eval", guarded):
        yield


@contextlib.contextmanager
def untouched_generators() -> Iterator[None]:
    """Let weights that are not in a checkpoint be the same every time, and leave the global generators as they are."""
    state = random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            yield
        finally:
            random.setstate(state)
