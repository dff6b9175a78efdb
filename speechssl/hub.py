"""Upstreams by name: `tera/tiny`, `tera/tiny@random`, `tera:states.ckpt`, `runs/my-run`, `fbank`, `hf:REPOSITORY`."""

import hashlib
import logging
import re
from pathlib import Path
from typing import Any

import torch

from speechssl import configs, registry
from speechssl.data.cuts import Corpus
from speechssl.errors import UserError, nearest
from speechssl.files import load_safetensors, read_json, sha256
from speechssl.interfaces import PretrainTask, Upstream
from speechssl.train.checkpoint import FORMAT, UPSTREAM_PREFIX, find_export

logger = logging.getLogger(__name__)


def load_upstream(name: str, checkpoint: str | Path | None = None, **overrides: Any) -> Upstream:
    """Return a trained (or, with `@random`, untrained) upstream in `eval()` mode on the CPU.

    Args:
        name: family and size (`tera/tiny`: the weights bundled with the package), `tera/tiny@random` or
            `tera/tiny@random3` (untrained, with that initialisation seed), `tera:FILE` (a published checkpoint),
            a run directory or exported folder, a parameter-free baseline such as `fbank`, or a model of another
            library such as `hf:facebook/hubert-base-ls960`.
        checkpoint: a published file or a run directory of the family `name`; the same as `name:checkpoint`.
        overrides: constructor arguments that replace those of the configuration or checkpoint.

    Raises:
        UserError: unknown name, missing or damaged files, settings the family does not have.
    """
    if checkpoint is not None:
        name = f"{name}:{checkpoint}"
    check_name(name)
    family, _, file = name.partition(":")
    if file and is_foreign(name):
        upstream = registry.module("upstream", family).FOREIGN.load(file, **overrides)
        upstream.family = family
    elif file:
        upstream = _from_checkpoint(family, Path(file), overrides)
    elif _is_registered(name) and ("@" in name or not family_needs_weights(name)):
        upstream = _from_configuration(name, overrides)
    elif _is_registered(name):
        upstream = _from_folder(bundled_folder(name), overrides)
    else:
        upstream = _from_folder(Path(name), overrides)
    return upstream.eval().requires_grad_(False)


def load_objective(source: str | Path, upstream: Upstream) -> PretrainTask | None:
    """Return the pretraining objective that lies beside a model, with its prediction heads; None where there is none.

    Args:
        source: the published file, run directory or exported folder that `upstream` was loaded from.
        upstream: the model, which the objective is put around.
    """
    module, source = registry.module("upstream", upstream.family), Path(source)
    if source.is_file():
        content = module.PUBLISHED.read(source)
        arguments, state = content.task_config, content.task_state
    else:
        folder = export_folder(source)
        head = folder / "pretraining.safetensors"
        arguments = read_json(folder / "config.json").get("task", {})
        state = load_safetensors(head) if head.is_file() else {}
    if not state:
        return None
    task = module.PRETRAIN_TASK(upstream, **arguments)
    own = {name: tensor for name, tensor in task.state_dict().items() if not name.startswith(UPSTREAM_PREFIX)}
    if {name: tensor.shape for name, tensor in own.items()} != {name: tensor.shape for name, tensor in state.items()}:
        logger.warning(
            "the prediction heads in %s are of another kind than %s has; left out", source, type(task).__name__
        )
        return None
    task.load_state_dict(state, strict=False)
    return task


def check_name(name: str) -> None:
    """Raise UserError for a name that `load_upstream` cannot find; builds and loads nothing."""
    family, _, file = name.partition(":")
    if file:
        registry.folder("upstream", family.partition("/")[0])
        if is_foreign(name):
            registry.module("upstream", family).FOREIGN.check(file)
        elif not Path(file).exists():
            raise UserError(f"checkpoint {file} does not exist")
    elif _is_registered(name) and registry.is_foreign(re.split("[/@]", name)[0]):
        raise UserError(f"upstream {name!r} stands for models of another library; say which, as in {name}:NAME")
    elif _is_registered(name):
        base, at, control = name.partition("@")
        configs.split_name("upstream", base)
        if at and not re.fullmatch(r"random\d*", control):
            raise UserError(f"unknown suffix @{control} in {name!r}; known: @random, or @randomN with a seed N")
        if not at and family_needs_weights(base):
            bundled_folder(base)
    elif Path(name).is_dir():
        export_folder(Path(name))
    else:
        known = registry.names("upstream")
        hint = nearest(re.split("[/@]", name)[0], known)
        if Path(name).is_file():
            hint = f"; for a published checkpoint say FAMILY:{name}"
        raise UserError(f"unknown upstream {name!r}: not a known family ({', '.join(known)}) and no such folder{hint}")


def family_of(name: str) -> str:
    """Return the family of an upstream's name; builds and loads nothing."""
    family, _, file = name.partition(":")
    if file or _is_registered(name):
        return re.split("[/@]", family)[0]
    return str(read_json(export_folder(Path(name)) / "config.json").get("family", ""))


def is_foreign(name: str) -> bool:
    """Tell whether a name such as "hf:REPOSITORY" stands for a model of another library; loads nothing."""
    family, _, rest = name.partition(":")
    return bool(rest) and family in registry.names("upstream") and registry.is_foreign(family)


def list_upstreams() -> list[str]:
    """Return every family and size that `load_upstream` and `pretrain` know, such as "tera/base"."""
    return [f"{family}/{size}" for family in registry.names("upstream") for size in registry.sizes("upstream", family)]


def list_tasks() -> list[str]:
    """Return the names of the benchmark tasks."""
    return registry.names("downstream")


def export_folder(path: Path) -> Path:
    """Return the exported folder of a run directory (its last stage's, if it has several).

    Raises:
        UserError: nothing has been exported there.
    """
    folder = find_export(path)
    if folder is None:
        raise UserError(
            f"{path} holds no exported model (expected {path / 'export' / 'config.json'}); "
            "is it a run directory, and has its pretraining ended?"
        )
    return folder


def take_statistics(upstream: Upstream, corpus: Corpus) -> bool:
    """Give an upstream that still wants corpus statistics those of a train split; return whether it wanted any."""
    frontend = upstream.statistics_frontend()
    if frontend is not None:
        upstream.corpus_statistics = corpus.statistics(frontend)
        upstream.set_statistics(*upstream.corpus_statistics)
    return frontend is not None


def _is_registered(name: str) -> bool:
    """Tell whether a name begins with a family; a folder that does, such as "tera/stages", is none of its sizes."""
    family, _, size = name.partition("@")[0].partition("/")
    if family not in registry.names("upstream"):
        return False
    return not size or size in registry.sizes("upstream", family) or not Path(name).is_dir()


def family_needs_weights(name: str) -> bool:
    """Return whether a family is learnt (the others, such as filterbanks, are used as they are)."""
    return name.partition("/")[0] in configs.trainable()


def bundled_folder(name: str) -> Path:
    """Return where trained weights of "tera/tiny" lie; raises UserError where the package brings none."""
    family, size = configs.split_name("upstream", name)
    found = registry.bundled(family)
    if size not in found:
        there = f" (of {family} there are: {', '.join(f'{family}/{one}' for one in found)})" if found else ""
        raise UserError(
            f"no trained weights of {family}/{size} are bundled{there}; give a run directory or FAMILY:FILE, pretrain "
            f"with `speechssl pretrain upstream={family}/{size}`, or say {family}/{size}@random for an untrained one"
            + (f"; for the folder {name} say ./{name}" if Path(name).is_dir() else "")
        )
    return found[size]


def _from_configuration(name: str, overrides: dict[str, Any]) -> Upstream:
    base, _, control = name.partition("@")
    family, config = configs.load("upstream", base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(control.removeprefix("random") or 0))
        return registry.build_upstream(family, {**config, **overrides})


def _from_folder(path: Path, overrides: dict[str, Any]) -> Upstream:
    folder = export_folder(path)
    description = read_json(folder / "config.json")
    if isinstance(description, dict) and "tokenizer" in description and "config" not in description:
        raise UserError(
            f"{folder} holds a tokenizer without an encoder; use speechssl.load_tokenizer, or name another stage"
        )
    check_description(description, {"format", "family", "config"}, folder)
    weights = folder / "model.safetensors"
    state = load_exported(weights, description.get("weights_sha256"))
    upstream = registry.build_upstream(description["family"], {**description["config"], **overrides})
    load_weights(upstream, state, weights)
    return upstream


def check_description(description: Any, expected: set[str], folder: Path) -> None:
    """Raise UserError for a config.json that lacks the expected keys, or comes from a later version."""
    if not isinstance(description, dict) or not expected <= description.keys():
        keys = ", ".join(sorted(expected))
        raise UserError(f"{folder / 'config.json'} does not describe what was expected there (it has to have {keys})")
    if description["format"] > FORMAT:
        raise UserError(
            f"{folder} has format {description['format']}, this version reads up to {FORMAT}; upgrade speechssl"
        )


def load_exported(path: Path, expected_sha256: str | None) -> dict[str, torch.Tensor]:
    """Return the tensors of an exported file; raises UserError where it is damaged or another one."""
    state = load_safetensors(path)
    if expected_sha256 and sha256(path) != expected_sha256:
        raise UserError(f"{path} is not the file that was exported (sha256 differs); copy or export it again")
    return state


def _from_checkpoint(name: str, path: Path, overrides: dict[str, Any]) -> Upstream:
    family = name.partition("/")[0]
    if path.is_dir():
        upstream = _from_folder(path, overrides)
        if upstream.family != family:
            raise UserError(f"{path} holds a {upstream.family} model, not {family}")
        _check_size(name, upstream.config, path)
        return upstream
    published = getattr(registry.module("upstream", family), "PUBLISHED", None)
    if published is None:
        raise UserError(f"upstream {family} has no published checkpoint format; give a run directory")
    content = published.read(path)
    _check_size(name, content.config, path)
    upstream = registry.build_upstream(family, {**content.config, **overrides})
    load_weights(upstream, content.upstream_state, path)
    return upstream


def _check_size(name: str, found: dict[str, Any], path: Path) -> None:
    """Raise UserError where "ssast/frame_base:FILE" names another size than the file holds."""
    if "/" not in name:
        return
    family, expected = configs.load("upstream", name)
    wrong = [key for key, value in expected.items() if key in found and found[key] != value]
    if wrong:
        shown = ", ".join(f"{key}={found[key]} instead of {expected[key]}" for key in wrong)
        raise UserError(f"{path} is not {name}: it has {shown}; say {family}:{path} to take it as it is")


def load_weights(module: torch.nn.Module, state: dict[str, torch.Tensor], source: Path) -> None:
    """Load a state dict strictly; raises UserError naming the first missing, extra or wrong-shaped tensor."""
    own = module.state_dict()
    for name in own.keys() - state.keys():
        raise UserError(f"{source} lacks the tensor {name!r} that {type(module).__name__} needs")
    for name in state.keys() - own.keys():
        raise UserError(f"{source} holds a tensor {name!r} that {type(module).__name__} does not have")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise UserError(
                f"{source}: {name} has shape {tuple(tensor.shape)}, expected {tuple(own[name].shape)}; "
                "the configuration does not fit these weights"
            )
    module.load_state_dict(state)


def weights_sha256(upstream: Upstream) -> str:
    """Return a digest of an upstream's configuration and tensors, whatever file they came from."""
    total = hashlib.sha256(repr((upstream.family, sorted(upstream.config.items()))).encode())
    for name, tensor in sorted(upstream.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
