"""Hydra configuration: the YAML beside families and tasks, and the command line of every verb.

The primary configurations live in `speechssl/conf`, one per verb, each key with a comment that `--help` shows.
Family and task YAML live beside the code they configure and are found through a search path plugin. Their keys are
constructor arguments, so any argument can be set from the command line, whether the YAML names it or not.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import speechssl.upstream
from speechssl import registry
from speechssl.errors import UserError, nearest

CONF = Path(__file__).parent / "conf"
OPEN_NODES = (
    "upstream",
    "task",
    "options",
    "settings",
)  # constructor arguments: checked against the signature, not the YAML
PLAIN_WITH_EQUALS = r"[^\s'\"\[\]{}(),\\]*=[^\s'\"\[\]{}(),\\]*"
NAMES = ("run", "inputs", "against", "out", "upstream", "data", "source", "run_dir", "init_from", "cache")
NUMBER = r"[\d._e+-]*\d[\d._e+-]*"
SWITCHES = {"finetuning": "finetune"}  # group: the key that switches it on
PRESETS = {  # verb: folder of its presets in a family's, and the groups that they may set
    "benchmark": ("finetune", ("finetuning", "settings", "task")),
    "pretrain": ("pretrain", ("optim", "trainer", "task", "upstream")),
}


class FamilySource(FileConfigSource):
    """Reads `upstream/` and `downstream/` below a folder, and nothing else there.

    A plain file source would take every other folder beside them, such as the user's `data/`, for a group of
    configurations, and `data=` could no longer be a path.
    """

    @staticmethod
    def scheme() -> str:
        return "speechssl"

    def available(self) -> bool:
        return Path(self.path).is_dir()

    def is_group(self, config_path: str) -> bool:
        return config_path.split("/")[0] in registry.KINDS and super().is_group(config_path)

    def is_config(self, config_path: str) -> bool:
        return config_path.split("/")[0] in registry.KINDS and super().is_config(config_path)


class FamilyFolders(SearchPathPlugin):
    """Lets Hydra find `upstream/<family>/*.yaml` and `downstream/<task>/*.yaml`.

    Only where they are wanted: for verbs whose `upstream=` is a plain name or path, Hydra must not see a group there.
    """

    visible = True

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if FamilyFolders.visible:
            root = Path(next(iter(speechssl.upstream.__path__))).parent
            search_path.append("speechssl", f"speechssl://{root}")


Plugins.instance().register(FamilySource)
Plugins.instance().register(FamilyFolders)


@contextmanager
def _hydra(verb: str = "") -> Iterator[None]:
    """Give the block a Hydra of its own; one that is running (a sweep) is put back afterwards."""
    before, FamilyFolders.visible = FamilyFolders.visible, takes_groups(verb)
    try:
        with initialize_config_module("speechssl.conf", version_base="1.3"):
            yield
    finally:
        FamilyFolders.visible = before


def takes_groups(verb: str) -> bool:
    """Return whether `upstream=` chooses a configuration (to pretrain) rather than names a model (anything else)."""
    return verb in ("", "pretrain")


def split_name(kind: str, name: str) -> tuple[str, str]:
    """Split "tera/tiny" into family and configuration ("base" where none is given), checking both.

    Raises:
        UserError: unknown family, task or size, with the nearest known one.
    """
    family, _, size = name.partition("/")
    known = registry.sizes(kind, family)
    size = size or "base"
    if size not in known:
        raise UserError(
            f"{kind} {family} has no configuration {size!r}; known: {', '.join(known)}{nearest(size, known)}"
        )
    return family, size


def load(kind: str, name: str) -> tuple[str, dict[str, Any]]:
    """Return the family or task name and the constructor arguments of "tera/tiny" or "ks/debug"."""
    family, size = split_name(kind, name)
    with _hydra():
        config = hydra_compose(overrides=[f"+{kind}={family}/{size}"])[kind]
    return family, arguments(config)


def demo(name: str) -> tuple[str, dict[str, Any]]:
    """Return the configuration that `demo upstream=NAME` trains, and its `demo.yaml`: size, steps, overrides.

    Raises:
        UserError: unknown name, or a family without a demo.
    """
    family, _, size = name.partition("/")
    path = registry.folder("upstream", family) / "demo.yaml"
    if not path.is_file():
        known = [
            one for one in registry.names("upstream") if (registry.folder("upstream", one) / "demo.yaml").is_file()
        ]
        raise UserError(f"upstream {family} has no demo; try another of: {', '.join(known)}")
    recipe = OmegaConf.to_container(OmegaConf.load(path))
    family, size = split_name("upstream", f"{family}/{size or recipe['size']}")
    return f"{family}/{size}", recipe


def arguments(config: DictConfig) -> dict[str, Any]:
    """Return the plain constructor arguments of a node: everything but `_target_`."""
    plain = OmegaConf.to_container(config, resolve=True)
    return {str(key): value for key, value in plain.items() if key != "_target_"}


def compose(verb: str, overrides: list[str]) -> DictConfig:
    """Return the checked configuration of `speechssl <verb> key=value ...`.

    Raises:
        UserError: a key that does not exist (with the nearest right one), a missing or mistyped value.
    """
    with _hydra(verb):
        try:
            known = hydra_compose(config_name=verb, overrides=_groups(verb, overrides)[0])
            config = hydra_compose(config_name=verb, overrides=translate(verb, overrides, known))
            OmegaConf.resolve(config)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(_one_line(error)) from error
    for key in sorted(OmegaConf.missing_keys(config)):
        raise UserError(f"{verb} needs {key}=... ({describe(verb).get(key, ('', 'no default'))[1]})")
    return config


def translate(verb: str, overrides: list[str], known: DictConfig | None = None) -> list[str]:
    """Turn what users type into what Hydra composes, checking keys and types against the `known` defaults."""
    groups, rest = _groups(verb, overrides)
    rest = _with_preset(verb, rest, groups)
    parsed = _parse(rest)
    if known is not None:
        for override in parsed:
            _check(verb, override, known)
        _check_switches(parsed)
    opened = [
        f"++{text}" if _is_open(override.key_or_group) and text[0] not in "+~" else text
        for text, override in zip(rest, parsed, strict=True)
    ]
    return groups + opened


def _groups(verb: str, overrides: list[str]) -> tuple[list[str], list[str]]:
    """Split off config group choices; `pretrain upstream=tera/tiny` also chooses the family's objective."""
    groups, rest = [], []
    for text in overrides:
        key, _, value = text.partition("=")
        if takes_groups(verb) and key == "upstream" and "," not in value:
            family, size = split_name("upstream", value)
            if not (registry.folder("upstream", family) / "pretrain.yaml").is_file():
                raise UserError(f"upstream {family} has nothing to pretrain; try another of: {', '.join(trainable())}")
            groups += [f"upstream={family}/{size}", f"upstream@task={family}/pretrain"]
        elif (CONF / key).is_dir():
            groups.append(text)
        else:
            rest.append(_quoted(text))
    return groups, rest


def _quoted(text: str) -> str:
    """Quote a plain value with a "=" in it, where Hydra's grammar would stop: folders of results have such names.

    A folder may also be called 1089: keys of files and folders take numbers as they are written.
    """
    key, _, value = text.partition("=")
    number = key in NAMES and re.fullmatch(NUMBER, value)
    return f'{key}="{value}"' if number or re.fullmatch(PLAIN_WITH_EQUALS, value) else text


def trainable() -> list[str]:
    """Return the families that have a pretraining objective."""
    families = registry.names("upstream")
    return [name for name in families if (registry.folder("upstream", name) / "pretrain.yaml").is_file()]


def presets(family: str, verb: str = "benchmark") -> list[str]:
    """Return the names of a family's recipes: for fine-tuning (benchmark) or pretraining."""
    return sorted(path.stem for path in (registry.folder("upstream", family) / PRESETS[verb][0]).glob("*.yaml"))


def preset(name: str, verb: str = "benchmark") -> dict[str, Any]:
    """Return the groups of "ssast/esc50_patch": for fine-tuning "finetuning", "settings" (of the upstream) and "task".

    Raises:
        UserError: unknown family or preset, with the nearest known one.
    """
    family, _, recipe = name.partition("/")
    known, (folder, groups) = presets(family, verb), PRESETS[verb]
    if recipe not in known:
        listed = ", ".join(known) or "none"
        raise UserError(
            f"upstream {family} has no preset {recipe!r} to {verb} with; known: {listed}{nearest(recipe, known)}"
        )
    path = registry.folder("upstream", family) / folder / f"{recipe}.yaml"
    content = OmegaConf.to_container(OmegaConf.load(path))
    for group in content:
        if group not in groups:
            raise UserError(f"{path} holds {group!r}; a preset holds {', '.join(groups)}")
    return content


def _with_preset(verb: str, overrides: list[str], chosen: list[str]) -> list[str]:
    """Put what `preset=NAME` says before what the user says, who thereby has the last word.

    Args:
        verb: of the command line.
        overrides: of keys.
        chosen: config groups: what is pretrained must be of the preset's family.
    """
    name = next((text.partition("=")[2] for text in reversed(overrides) if text.startswith("preset=")), "")
    if name in ("", "null") or verb not in PRESETS:
        return overrides
    given = [f"{key}={json.dumps(value)}" for key, value in _leaves(preset(name, verb))]
    for text in chosen:
        if text.startswith("upstream=") and not text.startswith(f"upstream={name.partition('/')[0]}/"):
            raise UserError(f"preset={name} is a recipe of another family than {text}")
    return given + overrides


def _leaves(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _parse(overrides: list[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise UserError(f"cannot read {' '.join(overrides)!r}: expected key=value ({_one_line(error)})") from error


def _check(verb: str, override: Override, known: DictConfig) -> None:
    key = override.key_or_group
    if override.is_sweep_override() or _is_open(key) or key.startswith("hydra"):
        return
    flat = list(flatten(known))
    if key in flat and not isinstance(OmegaConf.select(known, key, throw_on_missing=False), DictConfig):
        _check_type(key, override.value(), OmegaConf.select(known, key, throw_on_missing=False))
    elif key not in flat:
        raise UserError(f"{verb} has no key {key!r}{nearest(key, flat)} (all keys: speechssl {verb} --help)")


def _check_switches(overrides: list[Override]) -> None:
    """Raise UserError for keys of a group that counts only where another key switches it on."""
    given = {override.key_or_group: override.value() for override in overrides if not override.is_sweep_override()}
    for group, switch in SWITCHES.items():
        for key in given if not given.get("preset") else ():  # a preset is checked where it is used
            if key.startswith(f"{group}.") and not given.get(switch, False):
                raise UserError(f"{key} counts only with {switch}=true; add it, or leave {key} out")


def _is_open(key: str) -> bool:
    """Return whether a dotted key is a constructor argument, which its class checks."""
    node, _, rest = key.partition(".")
    return node in OPEN_NODES and rest != ""


def _check_type(key: str, value: Any, default: Any) -> None:
    if value is None or default is None:
        return
    number, expected = isinstance(value, int | float) and not isinstance(value, bool), None
    if isinstance(default, bool):
        expected = None if isinstance(value, bool) else "true or false"
    elif isinstance(default, int):
        expected = None if number and isinstance(value, int) else f"a whole number like {default}"
    elif isinstance(default, float):
        expected = None if number else f"a number like {default}"
    elif isinstance(default, ListConfig):
        expected = None if isinstance(value, list) else f"a list like {json.dumps(list(default))}"
    if expected:
        raise UserError(f"{key} expects {expected}, found {value!r}")


def flatten(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all keys, inner nodes included."""
    for key in config:
        name = f"{prefix}{key}"
        yield name
        if not OmegaConf.is_missing(config, key) and isinstance(config[key], DictConfig):
            yield from flatten(config[key], f"{name}.")


def describe(verb: str) -> dict[str, tuple[str, str]]:
    """Return {key: (default, explanation)} of a verb, read from the comments in its YAML."""
    return _describe(CONF / f"{verb}.yaml", "")


def _describe(path: Path, prefix: str) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    stack: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        group = re.match(r"\s*-\s*(\w+):\s*(\w+)\s*(#|$)", line)
        if group and (CONF / group[1] / f"{group[2]}.yaml").is_file():
            found.update(_describe(CONF / group[1] / f"{group[2]}.yaml", f"{prefix}{group[1]}."))
        entry = re.match(r"(\s*)([\w@]+):\s*([^#]*?)\s*(?:#\s*(.*))?$", line)
        if not entry or entry[2] in ("defaults", "_target_", "hydra"):
            continue
        indent = len(entry[1])
        stack = [item for item in stack if item[0] < indent]
        name = prefix + ".".join([*(item[1] for item in stack), entry[2]])
        stack.append((indent, entry[2]))
        if entry[4]:
            found[name] = (entry[3].strip(), entry[4].strip())
    return found


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
