"""`speechssl <verb> key=value ...`: finds the verb, composes its configuration, reports wrong input in one line."""

import importlib
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

from speechssl.errors import UserError, nearest
from speechssl.files import is_storage, unwritable
from speechssl.version import __version__

NOT_VERBS = ("main", "console")
USAGE = "usage: speechssl <verb> key=value ...    (speechssl <verb> --help explains every key)"
SWEEP = ("-m", "--multirun")


def verbs() -> list[str]:
    """Return the verbs: the modules beside this one."""
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name not in NOT_VERBS)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits with 2 on wrong input and 130 on Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        dispatch(arguments)
    except UserError as error:
        print(f"speechssl: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # `speechssl list | head`
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        if not is_storage(error):
            raise
        print(f"speechssl: error: {unwritable(error.filename, error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("speechssl: stopped; the same command continues where it can", file=sys.stderr)
        sys.exit(130)


def dispatch(arguments: list[str]) -> None:
    """Run the verb named first."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return
    if arguments[0] == "--version":
        print(__version__)
        return
    verb, rest = arguments[0], arguments[1:]
    if verb not in verbs():
        raise UserError(f"unknown verb {verb!r}; known: {', '.join(verbs())}{nearest(verb, verbs())}")
    module = importlib.import_module(f"speechssl.commands.{verb}")
    if any(argument in ("-h", "--help") for argument in rest):
        print(explain(verb, module))
    elif any(argument in SWEEP for argument in rest):
        sweep(verb, module, rest)
    elif hasattr(module, "run_plain"):
        module.run_plain(rest)
    else:
        from speechssl import configs

        module.run(configs.compose(verb, rest))


def sweep(verb: str, module: ModuleType, rest: list[str]) -> None:
    """Hand a `--multirun` to Hydra, whose launchers can spread it over processes or a cluster."""
    import hydra

    from speechssl import configs

    if hasattr(module, "run_plain"):
        raise UserError(f"{verb} has nothing to sweep")
    overrides = configs.translate(verb, [argument for argument in rest if argument not in SWEEP])
    sys.argv = [f"speechssl {verb}", "--multirun", *overrides]
    configs.FamilyFolders.visible = configs.takes_groups(verb)
    hydra.main(config_path="pkg://speechssl.conf", config_name=verb, version_base="1.3")(module.run)()


def overview() -> str:
    """Return the page of `speechssl --help`; reads the verbs' docstrings as text."""
    lines = [f"speechssl {__version__}: pretrain, extract and benchmark spectrogram encoders", "", USAGE, ""]
    for verb in verbs():
        text = (Path(__file__).parent / f"{verb}.py").read_text(encoding="utf-8")
        lines.append(f"  {verb:<10} {text.removeprefix(chr(34) * 3).splitlines()[0].removesuffix(chr(34) * 3)}")
    return "\n".join(lines)


def explain(verb: str, module: ModuleType) -> str:
    """Return the page of `speechssl <verb> --help`: every key, its default and its explanation."""
    from speechssl import configs

    lines = [f"speechssl {verb}: {(module.__doc__ or '').strip()}", ""]
    path = Path(__file__).parents[1] / "conf" / f"{verb}.yaml"
    if not path.is_file():
        return "\n".join(lines)
    lines.append("keys (key=default; ??? must be given):")
    for key, (default, text) in sorted(configs.describe(verb).items(), key=lambda row: "." in row[0]):
        lines.append(f"  {key + '=' + default:<34} {text}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
