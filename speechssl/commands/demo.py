"""The whole story on your own CPU: make a spoken corpus, pretrain, benchmark.

Types the commands a user would type, and shows each of them: a corpus spoken by espeak-ng, an encoder pretrained on it
without labels, and a table of what its features are worth for keyword spotting, speaker identification and speech
recognition, beside the plain filterbank and the same encoder untrained.
"""

import resource
import shlex
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from speechssl import configs
from speechssl.commands.main import dispatch
from speechssl.errors import UserError, nearest

TASKS = ("asr", "ks", "sid")
BASIC = "options.tasks=basic"  # the corpus without what only the other tasks need
FULL = 5.0  # minutes that the sizes below were chosen for, on 2 cores


def run(cfg: DictConfig) -> None:
    """Run every command of the demo; finished ones return at once when it is started again."""
    if cfg.minutes <= 0:
        raise UserError(f"minutes={cfg.minutes} must be above 0")
    started = time.monotonic()
    for arguments in plan(Path(cfg.out), cfg.upstream, cfg.minutes, cfg.seed):
        print(f"\n$ speechssl {shlex.join(arguments)}", flush=True)
        dispatch(arguments)
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(one).ru_maxrss for one in who) / 2**20  # KiB on Linux
    out = Path(cfg.out)
    print(f"\n{(out / 'results.md').read_text(encoding='utf-8')}")
    print(f"table:         {out / 'results.md'}")
    shown = pictures(out / "pretrained")
    print(f"loss curve:    {shown / 'curve.png'}")
    print(f"reconstructed: {newest(shown / 'snapshots')}")
    print(f"{time.monotonic() - started:.0f} s, peak memory of a process {peak:.2f} GiB")


def plan(out: Path, upstream: str, minutes: float, seed: int) -> list[list[str]]:
    """Return the commands; corpus, steps and learning grid shrink with the minutes.

    What a family trains within them is in the file `demo.yaml` of its folder: size, steps, keys to pretrain with, and
    where they are needed further numbers that shrink (`scaled`), keys of the untrained model (`untrained`) and of the
    tasks (`benchmark`, a list per task).
    """
    share = min(1.0, minutes / FULL)
    corpus, trained, untrained = out / "corpus", out / "pretrained", out / "untrained"
    name, recipe = configs.demo(upstream)
    steps = max(20, round(recipe["steps"] * minutes / FULL))
    speakers = max(6, round(30 * share))
    scaled = [f"{key}={max(10, round(most * minutes / FULL))}" for key, most in recipe.get("scaled", {}).items()]
    pretrain = ["pretrain", f"upstream={name}", f"data={corpus}", f"seed={seed}", *recipe["pretrain"], *scaled]
    every = max(10, steps // 5)
    systems = f"{{fbank_no_cmvn: fbank_no_cmvn, untrained: {untrained}, pretrained: {trained}}}"
    bench = ["benchmark", f"upstream={systems}", f"run_dir={out}"]
    keys = task_keys(name, recipe)
    heads = f"seeds=[{seed},{seed + 1},{seed + 2}]"  # they train in seconds, and small test sets make them differ
    recognise = [*bench, "tasks=asr/debug", f"data={corpus}/asr", f"seeds=[{seed}]"]
    classify = [*bench, "tasks=[ks/debug,sid/debug]", f"data={{ks: {corpus}/ks, sid: {corpus}/sid}}", heads]
    return [
        ["prepare", "corpus=synthetic", f"out={corpus}", f"seed={seed}", f"options.num_speakers={speakers}", BASIC],
        [*pretrain, f"run_dir={untrained}", "trainer.max_steps=0", *recipe.get("untrained", [])],
        [*pretrain, f"run_dir={trained}", f"trainer.max_steps={steps}", f"trainer.eval_every={every}"],
        [*recognise, *keys.get("asr", [])],
        [*classify, *keys.get("ks", []), *keys.get("sid", [])],  # one command, and so the keys of both
    ]


def task_keys(name: str, recipe: dict[str, Any]) -> dict[str, list[str]]:
    """Return {task: further keys of its benchmark}; raises UserError for a task that the demo does not have."""
    keys = recipe.get("benchmark", {})
    for task in keys:
        if task not in TASKS:
            known = f"{', '.join(TASKS)}{nearest(task, TASKS)}"
            raise UserError(f"demo.yaml of {name} benchmarks {task!r}, the demo has {known}")
    return keys


def pictures(run_dir: Path) -> Path:
    """Return the folder of a run's curve: of its last stage that drew one, where it has several."""
    drawn = [folder for folder in sorted(run_dir.glob("stages/*")) if (folder / "curve.png").is_file()]
    return run_dir if (run_dir / "curve.png").is_file() or not drawn else drawn[-1]


def newest(folder: Path) -> Path:
    """Return the newest picture of a folder, or the folder where there is none."""
    return max(folder.glob("*.png"), default=folder, key=lambda path: path.stat().st_mtime)
