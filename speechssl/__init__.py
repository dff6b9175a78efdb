"""speechssl: pretrain, extract and benchmark self-supervised spectrogram encoders.

`import speechssl` is cheap: the names below are imported when they are first used.
"""

from typing import Any

from speechssl.version import __version__

__all__ = [
    "__version__",
    "from_pretrained",
    "list_tasks",
    "list_upstreams",
    "load_tokenizer",
    "load_upstream",
    "push_to_hub",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    if name in ("load_upstream", "list_upstreams", "list_tasks"):
        from speechssl import hub

        return getattr(hub, name)
    if name == "load_tokenizer":
        from speechssl import tokenizer_hub

        return tokenizer_hub.load_tokenizer
    if name in ("from_pretrained", "push_to_hub", "save_pretrained"):
        from speechssl.bridges import repository

        return getattr(repository, name)
    raise AttributeError(f"module 'speechssl' has no attribute {name!r}")
