"""Our exported folders as repositories of the Hugging Face Hub; needs huggingface_hub alone.

A repository holds what `export/` of a run directory holds (config.json, model.safetensors, the prediction heads, the
card), and beside it what lets transformers know the model by itself: a `model_type` in config.json, and
preprocessor_config.json. Weights are safetensors and nothing that is fetched is executed.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import utils
from torch import Tensor

from speechssl import hub, registry
from speechssl.deploy.card import CARD, write_card
from speechssl.deploy.record import RECORD
from speechssl.deploy.staging import TENSORS
from speechssl.errors import UserError
from speechssl.files import load_safetensors, make_folder, read_json, write_json
from speechssl.interfaces import Upstream
from speechssl.train.checkpoint import MODEL_TYPE, description, export_upstream, write_tensors

NETWORK = (OSError, *utils.HfHubHTTPError.__bases__)  # with the errors of whichever HTTP library the Hub's client uses
DTYPES = ("float32", "float16")  # of stored tensors
HASHED = {"model.safetensors": "weights_sha256", "pretraining.safetensors": "pretraining_sha256"}  # in config.json
FILES = [
    "config.json",
    "preprocessor_config.json",
    "*.safetensors",
    CARD,
    RECORD,
]  # of a repository; all others stay away


def from_pretrained(
    name: str | Path, revision: str | None = None, *, token: str | bool | None = None, **settings: Any
) -> Upstream:
    """Return the encoder of a repository of the Hub, of an exported folder or of a run directory.

    Args:
        name: OWNER/NAME, or a folder.
        revision: branch, tag or commit of a repository; None is its main branch.
        token: of the Hub; None is the one stored by `hf auth login`.
        settings: constructor arguments of the encoder that replace those of config.json.

    Raises:
        UserError: no such repository, no network and not in the cache, or a model that is not ours or damaged.
    """
    return hub.load_upstream(str(fetch(name, revision, token=token).resolve()), **settings)


def fetch(name: str | Path, revision: str | None = None, **options: Any) -> Path:
    """Return the folder with the files of a repository, fetched where they are not in the cache; a folder as it is.

    Args:
        name, revision: as in `from_pretrained`.
        options: of `huggingface_hub.snapshot_download`, such as token, cache_dir or local_files_only.

    Raises:
        UserError: see `from_pretrained`.
    """
    if Path(name).is_dir():
        if revision is not None:
            raise UserError(f"{name} is a folder; revision={revision} is for repositories of the Hugging Face Hub")
        folder = hub.export_folder(Path(name))
        _check_ours(folder, str(name))
        return folder
    with _explained(str(name)):
        utils.validate_repo_id(str(name))
        folder = Path(huggingface_hub.snapshot_download(str(name), revision=revision, allow_patterns=FILES, **options))
    _check_ours(folder, str(name))
    return folder


def save_pretrained(upstream: Upstream | str | Path, folder: str | Path, dtype: str = "float32") -> Path:
    """Write an encoder as a folder that is ready to be a repository, and return it.

    Args:
        upstream: an encoder, a run directory or an exported folder, or any other name that `load_upstream` takes. Of
            folders the card, the prediction heads and what config.json says of the training come along.
        folder: where to write; what an exported folder consists of is replaced. `load_upstream` and transformers read
            it.
        dtype: "float16" stores matrices in half the space; they are float32 again when they are loaded.

    Raises:
        UserError: nothing exported there, a model of another library, or a folder that cannot be written.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype expects {' or '.join(DTYPES)}, found {dtype!r}")
    target, source = Path(folder), None
    if not isinstance(upstream, Upstream) and not Path(upstream).is_dir():
        upstream = hub.load_upstream(str(upstream))
    make_folder(target)
    if isinstance(upstream, Upstream):
        _check_rebuildable(upstream)
        _clear(target)
        export_upstream(upstream, target)
    else:
        source = hub.export_folder(Path(upstream)).resolve()  # a relative path may read like a family's name
        upstream = hub.load_upstream(str(source))
        if dtype != "float32" and source == target.resolve():
            raise UserError(f"{folder} is the model itself, which {dtype} would make coarser; give another folder")
        _copy(source, target)
    content = read_json(target / "config.json")
    if not description(upstream).items() <= content.items():
        write_json(target / "config.json", content | description(upstream))
    write_json(target / "preprocessor_config.json", extractor_settings(upstream))
    if dtype == "float16":
        _halve(target)
        for name in (CARD, RECORD):  # about other files
            (target / name).unlink(missing_ok=True)
    if not (target / CARD).is_file():
        write_card(target, origin=source)
    return target


def push_to_hub(
    upstream: Upstream | str | Path,
    repository: str,
    *,
    private: bool | None = None,
    commit_message: str = "Upload with speechssl",
    revision: str | None = None,
    token: str | bool | None = None,
) -> str:
    """Upload an encoder as a repository of the Hugging Face Hub, which is made where it is missing; return its address.

    Args:
        upstream: as in `save_pretrained`.
        repository: OWNER/NAME.
        private: of a new repository; None is what the owner has set.
        commit_message: of the one commit that is made.
        revision: the branch to upload to; None is main.
        token: with the right to write; None is the one stored by `hf auth login`.

    Raises:
        UserError: see `save_pretrained`; no network, or no right to write there.
    """
    with tempfile.TemporaryDirectory() as folder, _explained(repository):
        utils.validate_repo_id(repository)
        save_pretrained(upstream, folder)
        api = huggingface_hub.HfApi(token=token, library_name=MODEL_TYPE)
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=FILES,
            commit_message=commit_message,
            revision=revision,
        )
    return str(address)


def extractor_settings(upstream: Upstream) -> dict[str, Any]:
    """Return the settings of transformers' Wav2Vec2FeatureExtractor that fit: it pads, and says how much.

    The waveform itself stays as it is; what there is of normalisation is inside the model.
    """
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": upstream.sample_rate,
        "padding_side": "right",
        "padding_value": 0.0,
        "do_normalize": False,
        "return_attention_mask": True,
    }


def _copy(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve():
        return
    _clear(target)
    for file in (one for pattern in FILES for one in source.glob(pattern)):
        shutil.copyfile(file, target / file.name)


def _clear(folder: Path) -> None:
    """Remove what an older model left in a folder; other files stay."""
    for name in ("config.json", "preprocessor_config.json", CARD, RECORD, *TENSORS):
        (folder / name).unlink(missing_ok=True)


def _halve(folder: Path) -> None:
    """Store the matrices of an exported folder in half precision; vectors, such as norms and statistics, stay."""
    content = read_json(folder / "config.json")
    for name, digest in HASHED.items():
        path = folder / name
        if path.is_file():
            state = load_safetensors(path)
            content[digest] = write_tensors(path, {key: _half(tensor) for key, tensor in state.items()})
    write_json(folder / "config.json", content | {"stored_as": "float16"})


def _half(tensor: Tensor) -> Tensor:
    """Return a matrix in float16; raises UserError where that cannot hold it."""
    if not tensor.is_floating_point() or tensor.dim() < 2:
        return tensor
    half = tensor.half()
    if not bool(half.isfinite().all()):
        raise UserError(f"a tensor with values up to {float(tensor.abs().max()):.3g} does not fit float16")
    return half


def _check_rebuildable(upstream: Upstream) -> None:
    if not upstream.family or registry.is_foreign(upstream.family):
        raise UserError(
            f"{type(upstream).__name__} is a model of another library, or was not made by load_upstream; "
            "only an encoder that its config.json can rebuild can be saved"
        )


def _check_ours(folder: Path, name: str) -> None:
    """Raise UserError where config.json is missing, or is that of another library's model."""
    file = folder / "config.json"
    content = read_json(file) if file.is_file() else None
    if not isinstance(content, dict) or "family" not in content:
        kind = content.get("model_type") if isinstance(content, dict) else None
        other = f", it is one of transformers ({kind}): load_upstream('hf:{name}') reads those" if kind else ""
        raise UserError(f"{name} is not a model of speechssl (no config.json that names a family){other}")


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what the Hub answers into one line."""
    try:
        yield
    except UserError:
        raise
    except utils.HFValidationError as error:
        raise UserError(f"{name} is neither a folder nor the name of a repository (OWNER/NAME)") from error
    except utils.GatedRepoError as error:
        raise UserError(
            f"{name} asks for its conditions to be accepted on its page, and for `hf auth login`"
        ) from error
    except utils.RevisionNotFoundError as error:
        raise UserError(f"{name} has no such revision; expected a branch, a tag or a commit") from error
    except utils.RepositoryNotFoundError as error:
        raise UserError(
            f"there is no repository {name} on the Hugging Face Hub, it is private or not yours to write to "
            "(`hf auth login`), and no folder of that name here"
        ) from error
    except (*NETWORK, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"the repository {name} cannot be reached or written to ({reason})") from error
