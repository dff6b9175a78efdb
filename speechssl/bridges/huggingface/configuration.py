"""What transformers calls a configuration: our config.json, with the names that transformers reads."""

from typing import Any

from transformers import PretrainedConfig

from speechssl.bridges.repository import MODEL_TYPE


class SpeechsslConfig(PretrainedConfig):
    """Family and constructor arguments of an encoder; other keys of config.json are kept as they are.

    Args:
        family: such as "tera".
        config: the constructor arguments of its model, all of them.
        kwargs: hidden_size, num_hidden_layers, sampling_rate (Hz), downsample_rate (samples per frame), ...
    """

    model_type = MODEL_TYPE

    def __init__(self, family: str = "", config: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.family = family
        self.config = dict(config or {})
        super().__init__(**kwargs)
