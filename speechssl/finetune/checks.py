"""Settings of fine-tuning that a task or corpus cannot have, found before anything is trained."""

from speechssl.data.cuts import Corpus
from speechssl.errors import UserError
from speechssl.finetune.draws import class_lists
from speechssl.finetune.settings import FinetuneSettings
from speechssl.interfaces import DownstreamTask


def check_task(task: DownstreamTask, corpus: Corpus, settings: FinetuneSettings) -> None:
    """Raise UserError for settings that do not fit a task or its corpus."""
    if settings.selects and "dev" not in corpus.splits:
        what = "finetuning.select=dev" if settings.select == "dev" else f"{len(settings.lrs)} learning rates"
        raise UserError(
            f"{what} needs a dev split, which {corpus.path} does not have; give one learning rate and "
            "finetuning.select=last, or prepare the corpus with a dev split"
        )
    wanting = [name for name in ("head", "loss") if getattr(settings, name) != "task"]
    wanting += ["balance"] if settings.balance else []
    if wanting and (not hasattr(task, "classes") or class_lists(task.dataset("train").labels) is None):
        name = wanting[0]
        raise UserError(
            f"finetuning.{name}={getattr(settings, name)} needs a task with classes, which {task.name} is "
            f"not; use finetuning.{name}={'false' if name == 'balance' else 'task'}"
        )
