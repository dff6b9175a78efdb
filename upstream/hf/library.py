"""Models of Hugging Face transformers by the name of a repository or a folder.

https://github.com/huggingface/transformers. Nothing a repository brings is executed: no code of its own, and weights
are read from safetensors, or by the library with torch's `weights_only`. Differs from the library's own loading: a
model that lacks weights is refused, where it would come with random ones and a line in the log.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

from huggingface_hub import constants, file_download, utils
from safetensors import SafetensorError

from speechssl.errors import UserError, nearest
from speechssl.files import read_json
from speechssl.interfaces import Upstream
from speechssl.upstream.hf import model as waveform
from speechssl.upstream.hf.windows import Ast, WhisperEncoder

SPECTRAL = {"whisper": WhisperEncoder, "audio-spectrogram-transformer": Ast}
KNOWN = (*waveform.KINDS, *SPECTRAL)
SETTINGS = ("revision", "normalize")
TRAINING_ONLY = ("masked_spec_embed",)  # some files lack it; it stands in for frames that training masks
# Fine-tuning here brings its own: these draw from global generators, and a dropped layer has no hidden state.
TURNED_OFF = {"apply_spec_augment": False, "layerdrop": 0.0, "encoder_layerdrop": 0.0, "add_adapter": False}
UNSAID = {"id2label", "label2id", "architectures", "dtype", "torch_dtype", "transformers_version", "auto_map"}


class HuggingFace:
    """Encoders of transformers, named hf:REPOSITORY or hf:FOLDER.

    Settings: `revision`, a branch, tag or commit of a repository; `normalize`, whether a model that reads waveforms
    gets them with mean 0 and variance 1 (None: as the preprocessor_config.json beside it says).
    """

    def check(self, name: str) -> None:
        """Raise UserError where transformers, the folder or the repository is missing, or holds another kind of model.

        Of a repository that is not in the local cache config.json is fetched.
        """
        transformers = _transformers()
        if Path(name).is_dir():
            _check_folder(Path(name), name)
            return
        try:
            utils.validate_repo_id(name)
        except utils.HFValidationError as error:
            raise UserError(f"hf:{name} is neither a folder nor the name of a repository (OWNER/NAME)") from error
        cache = Path(constants.HF_HUB_CACHE) / file_download.repo_folder_name(repo_id=name, repo_type="model")
        if not cache.is_dir():
            _kind(_configuration(transformers, name, None).model_type, name)

    def load(self, name: str, **settings: Any) -> Upstream:
        """Return the model on the CPU, in float32.

        Raises:
            UserError: unknown settings, or a model that is missing, of another kind, damaged or incomplete.
        """
        transformers = _transformers()
        _check_settings(name, settings)
        revision, normalize = settings.get("revision"), settings.get("normalize")
        config = _configuration(transformers, name, revision)
        commit = None if Path(name).is_dir() else _commit(name, revision)
        revision = commit or revision  # all files of one state
        kind = _kind(config.model_type, name)
        if kind in SPECTRAL and normalize is not None:
            raise UserError(f"hf:{name} ({kind}) reads a spectrogram; normalize is for models that read waveforms")
        extractor = None if normalize is not None else _extractor(transformers, name, revision, kind)
        model = _model(transformers, name, revision, config).float()
        if kind == "whisper":
            model = model.get_encoder()
        if kind in SPECTRAL:
            upstream = SPECTRAL[kind](model, extractor)
        elif extractor is None:
            upstream = waveform.WaveformModel(model, normalize)
        else:
            upstream = waveform.WaveformModel(model, extractor.do_normalize, extractor.sampling_rate)
        upstream.config = _description(name, commit, config, extractor, getattr(upstream, "normalize", None))
        return upstream


def _transformers() -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        raise UserError("hf: models need transformers; install it with: pip install 'speechssl[hf]'") from error
    return transformers


def _check_settings(name: str, settings: dict[str, Any]) -> None:
    for key in settings.keys() - set(SETTINGS):
        raise UserError(f"hf:{name} has no setting {key!r}; known: {', '.join(SETTINGS)}{nearest(key, SETTINGS)}")
    if settings.get("revision") is not None and Path(name).is_dir():
        raise UserError(f"hf:{name} is a folder; revision is for repositories")
    if not isinstance(settings.get("normalize"), bool | None):
        raise UserError(f"expected normalize=true or normalize=false, found {settings['normalize']!r}")


def _check_folder(folder: Path, name: str) -> None:
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{folder} holds no config.json; expected a folder that transformers' save_pretrained wrote")
    content = read_json(path)
    _kind(content.get("model_type") if isinstance(content, dict) else None, name)


def _kind(kind: str | None, name: str) -> str:
    if kind not in KNOWN:
        raise UserError(f"hf:{name} is a model of kind {kind!r}; expected one that reads audio: {', '.join(KNOWN)}")
    return kind


@contextmanager
def _explained(name: str, what: str, hint: str = "") -> Iterator[None]:
    """Turn what the library raises for files that are missing, damaged or do not fit into one line."""
    try:
        yield
    except UnpicklingError as error:
        raise UserError(
            f"{what} of hf:{name} is damaged, or holds more than tensors, which is never run; "
            "expected model.safetensors, or a pytorch_model.bin of tensors alone"
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot read {what} of hf:{name}: {reason}{hint}") from error


@contextmanager
def _quiet(transformers: ModuleType) -> Iterator[None]:
    """Keep back the library's table of tensors that were left out or missing: the latter is an error here."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)


def _configuration(transformers: ModuleType, name: str, revision: str | None) -> Any:
    hint = "" if Path(name).is_dir() else " It is no folder here either; HF_HUB_OFFLINE=1 asks the cache alone."
    with _explained(name, "config.json", hint):
        config = transformers.AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    for key, value in TURNED_OFF.items():
        if hasattr(config, key):
            setattr(config, key, value)
    return config


def _commit(name: str, revision: str | None) -> str | None:
    """Return the commit whose config.json the cache holds for a branch, tag or commit of a repository."""
    file = file_download.try_to_load_from_cache(
        name, "config.json", revision=revision, cache_dir=constants.HF_HUB_CACHE
    )
    return Path(file).parent.name if isinstance(file, str) else None


def _extractor(transformers: ModuleType, name: str, revision: str | None, kind: str) -> Any:
    try:
        with _explained(name, "preprocessor_config.json"):
            return transformers.AutoFeatureExtractor.from_pretrained(name, revision=revision, trust_remote_code=False)
    except UserError as error:
        instead = "" if kind in SPECTRAL else ", or the setting normalize=true or normalize=false in its place (16 kHz)"
        raise UserError(
            f"hf:{name} has no preprocessor_config.json that can be read; expected the one saved with it{instead}"
        ) from error


def _model(transformers: ModuleType, name: str, revision: str | None, config: Any) -> Any:
    with _explained(name, "the file of weights"), _quiet(transformers):
        model, found = transformers.AutoModel.from_pretrained(
            name,
            config=config,
            revision=revision,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    wrong = [key for key in found["missing_keys"] if not key.endswith(TRAINING_ONLY)]
    wrong = sorted(key for key in [*wrong, *(entry[0] for entry in found["mismatched_keys"])] if "decoder." not in key)
    if wrong:
        raise UserError(
            f"hf:{name}: {len(wrong)} tensors of a {config.model_type} encoder are missing or of another shape, "
            f"the first is {wrong[0]!r}; expected the weights that belong to its config.json"
        )
    return model


def _description(name: str, commit: str | None, config: Any, extractor: Any, normalize: bool | None) -> dict[str, Any]:
    """Return plain values that, with the tensors, tell which model it is."""
    architecture = {k: v for k, v in json.loads(config.to_json_string()).items() if k not in UNSAID and k[0] != "_"}
    frontend = {} if extractor is None else json.loads(extractor.to_json_string())
    frontend.pop("mel_filters", None)
    return {
        "model": Path(name).resolve().name if Path(name).is_dir() else name,
        "commit": commit,
        "architecture": dict(sorted(architecture.items())),
        "frontend": dict(sorted(frontend.items())) if normalize is None else {"normalize": normalize},
    }
