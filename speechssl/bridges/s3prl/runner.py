"""s3prl's own `run_downstream.py` with our encoders in its hub: the arguments are its arguments.

s3prl 0.4.18 was written for older neighbours. For as long as it runs it is lent what these have given up:

- torchaudio's `set_audio_backend`, `load` without torchcodec, and sox effects (see `sound`);
- names that huggingface_hub no longer has (it uses them only for `--hub huggingface` and `--push_to_hf_hub`, which
  therefore do not work);
- tensorboardX, where it is missing: PyTorch's own writer has the same methods;
- reading its checkpoints, which hold its command line (`-e` and `-i`), with `weights_only`.
"""

import argparse
import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType

import torch

from speechssl.bridges.s3prl import sound
from speechssl.bridges.s3prl.registration import register, require, silent
from speechssl.stand_ins import replaced, torchaudio_names


class Given:
    """Stands in for a class that huggingface_hub has given up."""

    def __init__(self, *arguments: object, **settings: object) -> None:
        raise RuntimeError(
            "s3prl asks for a class that huggingface_hub has given up; leave its Hugging Face options out"
        )

    @staticmethod
    def get_token() -> None:
        Given()


def run_downstream(arguments: Sequence[str]) -> None:
    """Run s3prl's `run_downstream.py` with its command line, such as ["-m", "train", "-u", "speechssl_local", ...].

    Raises:
        UserError: s3prl or torchaudio is missing, or an encoder cannot be loaded.
    """
    require()
    with surroundings(), replaced(vars(sys), "argv", ["run_downstream.py", *arguments]):
        register()
        with silent():
            from s3prl import run_downstream as theirs
        theirs.main()


@contextlib.contextmanager
def surroundings() -> Iterator[None]:
    """Lend s3prl's runner what it asks for and its neighbours no longer have, within the block."""
    import huggingface_hub
    import torchaudio
    from torch.utils.tensorboard import SummaryWriter

    old = hasattr(torchaudio, "sox_effects")
    effects = {name: getattr(sound, name) for name in ("apply_effects_file", "apply_effects_tensor")}
    with contextlib.ExitStack() as stack:
        stack.enter_context(torchaudio_names(effects))
        if not old:
            stack.enter_context(replaced(vars(torchaudio), "load", sound.load))
        for name in ("HfFolder", "Repository"):
            if not hasattr(huggingface_hub, name):
                stack.enter_context(replaced(vars(huggingface_hub), name, Given))
        if importlib.util.find_spec("tensorboardX") is None:
            writer = ModuleType("tensorboardX")
            writer.SummaryWriter = SummaryWriter
            stack.enter_context(replaced(sys.modules, "tensorboardX", writer))
        stack.enter_context(torch.serialization.safe_globals([argparse.Namespace]))
        yield
