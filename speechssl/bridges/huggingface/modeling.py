"""An encoder of ours as a model of transformers: input_values and attention_mask in, hidden states out.

Loading and saving are ours, not those of transformers: it builds a model without memory first and fills in what the
file holds, which leaves filter banks and windows, that no file holds, without values. What is saved is the folder that
`load_upstream` reads, in safetensors.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from speechssl import hub, registry
from speechssl.bridges import repository
from speechssl.bridges.huggingface.configuration import SpeechsslConfig
from speechssl.errors import UserError
from speechssl.files import read_json
from speechssl.interfaces import Upstream

FETCHING = ("cache_dir", "force_download", "local_files_only", "token")  # of huggingface_hub.snapshot_download
KEPT = ("output_hidden_states",)  # in the configuration
# What transformers or its users say, and what is so anyway: weights are safetensors, and no code is fetched.
UNHEARD = ("_from_auto", "adapter_kwargs", "low_cpu_mem_usage", "trust_remote_code", "use_safetensors", "weights_only")


@dataclass
class SpeechsslOutput(BaseModelOutput):
    """What an encoder gives.

    Attributes:
        last_hidden_state: (B, T, D).
        hidden_states: num_hidden_layers + 1 of them, the first is the input of the first layer; None where not asked.
        lengths: (B,) valid frames; those beyond are to be left out.
    """

    lengths: Tensor | None = None


class SpeechsslModel(PreTrainedModel):
    """An encoder without a head.

    Args:
        config: family and constructor arguments.
        upstream: the encoder itself; None builds one from `config`, untrained.
    """

    config_class = SpeechsslConfig
    base_model_prefix = "upstream"
    main_input_name = "input_values"

    def __init__(self, config: SpeechsslConfig, upstream: Upstream | None = None) -> None:
        super().__init__(config)
        self.upstream = registry.build_upstream(config.family, config.config) if upstream is None else upstream
        for name, value in repository.description(self.upstream).items():
            if name != "model_type":
                setattr(self.config, name, value)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave weights alone: a family initialises its own."""

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SpeechsslOutput | tuple:
        """Encode a padded batch.

        Args:
            input_values: (B, S) samples in [-1, 1] at `config.sampling_rate`, zero beyond each length.
            attention_mask: (B, S), 1 where there are samples, 0 in the padding at the end; None: no padding.
            output_hidden_states: give all hidden states, not only the last one; None is what the configuration says.
            return_dict: False gives a tuple.

        Raises:
            UserError: wrong shapes or types, or padding that is not at the end.
        """
        states, frames = self.upstream(input_values, lengths_of(attention_mask, input_values))
        every = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        output = SpeechsslOutput(states[-1], tuple(states) if every else None, None, frames)
        return output.to_tuple() if return_dict is False else output

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *arguments: Any,
        config: SpeechsslConfig | None = None,
        revision: str | None = None,
        **settings: Any,
    ) -> "SpeechsslModel":
        """Return the encoder of a repository, of what `save_pretrained` wrote, or of a run directory; in eval mode.

        Args:
            name: OWNER/NAME, or a folder.
            arguments: none.
            config: its constructor arguments replace those beside the weights, what else it says is kept.
            revision: branch, tag or commit of a repository.
            settings: cache_dir, force_download, local_files_only, token and output_hidden_states as in transformers;
                others are constructor arguments of the encoder that replace those beside the weights.

        Raises:
            UserError: not found, not ours, damaged, or a setting that the encoder does not have.
        """
        _check_kept(settings)
        fetching = {key: settings.pop(key) for key in FETCHING if key in settings}
        settings = {key: value for key, value in settings.items() if key not in UNHEARD}
        folder = repository.fetch(name, None if Path(name).is_dir() else revision, **fetching)
        kept = {key: settings.pop(key) for key in KEPT if key in settings}
        config = SpeechsslConfig(**read_json(folder / "config.json")) if config is None else copy.deepcopy(config)
        given = {**config.config, **settings}
        upstream = hub.load_upstream(str(folder), **given).requires_grad_(True)
        for key, value in {**kept, "family": upstream.family, "config": upstream.config}.items():
            setattr(config, key, value)
        return cls(config, upstream).eval()

    def save_pretrained(
        self, save_directory: str | Path, *, push_to_hub: bool = False, repo_id: str | None = None, **settings: Any
    ) -> None:
        """Write the folder that `from_pretrained`, `speechssl.load_upstream` and AutoModel read.

        Args:
            save_directory: where to write; made where it is missing.
            push_to_hub: upload it as well, as `repo_id`, by default named like the folder.
            repo_id: OWNER/NAME.
            settings: private, token, commit_message and revision for the upload; others of transformers do not apply.
        """
        repository.save_pretrained(self.upstream, save_directory)
        if push_to_hub:
            self.push_to_hub(repo_id or Path(save_directory).name, **settings)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        **settings: Any,
    ) -> str:
        """Upload the encoder as OWNER/NAME; return its address. `settings` of transformers do not apply."""
        message = commit_message or "Upload with speechssl"
        return repository.push_to_hub(
            self.upstream, repo_id, private=private, commit_message=message, revision=revision, token=token
        )


def lengths_of(mask: Tensor | None, input_values: Tensor) -> Tensor | None:
    """Return (B,) valid samples of an attention mask (B, S); raises UserError where padding is not at the end."""
    if mask is None:
        return None
    if mask.shape != input_values.shape:
        raise UserError(
            f"expected an attention_mask of the shape of input_values, {tuple(input_values.shape)}, "
            f"found {tuple(mask.shape)}"
        )
    mask = mask.bool()
    if bool((mask[:, 1:] > mask[:, :-1]).any()):
        raise UserError("expected padding at the end of each row of attention_mask, found some before samples")
    return mask.sum(1)


def _check_kept(settings: dict[str, Any]) -> None:
    """Raise UserError for what transformers would do on loading and is done elsewhere here."""
    for key in ("dtype", "torch_dtype"):
        kind = settings.pop(key, None)
        if kind not in (None, "auto", "float32", torch.float32):
            raise UserError(f"{key}={kind}: weights stay in float32 (so does the frontend); use torch.autocast")
    for key in ("device_map", "quantization_config", "subfolder", "variant"):
        if settings.pop(key, None) not in (None, ""):
            raise UserError(f"{key} does not apply to an encoder of speechssl; move it with .to(device)")
