"""Corpus or plain folder of audio to manifests and shards; resumable.

Reads every file once: what is unreadable, truncated, silent, shorter than 0.1 s or not finite is left out
and listed in OUT/corpus.json with the reason.
"""

from omegaconf import DictConfig, OmegaConf

from speechssl.commands.console import start


def run(cfg: DictConfig) -> None:
    """Prepare and print what is there now."""
    from speechssl.data.cuts import open_corpus
    from speechssl.data.prepare import prepare
    from speechssl.errors import UserError

    start()
    settings = OmegaConf.to_container(cfg)
    options = settings.pop("options")
    for name in options.keys() & settings.keys():
        raise UserError(f"{name} is a key of prepare itself: write {name}=... instead of options.{name}=...")
    corpus = open_corpus(prepare(**settings, **options))
    for split, summary in corpus.info["splits"].items():
        seconds = summary["seconds"]
        print(
            f"{split:<5} {summary['utterances']:>9} utterances {summary['hours']:>9.2f} h, "
            f"{seconds['min']:.2f} to {seconds['max']:.2f} s"
        )
    skipped = corpus.info["skipped"]
    for entry in skipped[:5]:
        print(f"skipped {entry['source']}: {entry['reason']}")
    if len(skipped) > 5:
        print(f"... {len(skipped)} skipped in all, see {corpus.path / 'corpus.json'}")
    print(f"{corpus.name} is ready in {corpus.path}")
