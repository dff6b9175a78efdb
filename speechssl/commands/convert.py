"""Published checkpoint to ours and back, checked on the spot.

`source=states.ckpt out=folder` writes an exported folder that `load_upstream(folder)` reads; `source=run_dir
out=states.ckpt` writes the family's published layout. The written file is read again, and the largest difference
between hidden states before and after is printed. Tokenizers are told from encoders; of these, labels are compared.
"""

from pathlib import Path

from omegaconf import DictConfig

from speechssl.commands.console import start


def run(cfg: DictConfig) -> None:
    """Convert in the direction that `source` tells (a file or a folder), and report the difference."""
    from speechssl import registry
    from speechssl.errors import UserError
    from speechssl.files import sha256
    from speechssl.hub import load_objective, load_upstream
    from speechssl.testing import largest_difference
    from speechssl.tokenizer_hub import convert_tokenizer, is_tokenizer
    from speechssl.train.checkpoint import export_upstream

    start()
    source, out = Path(cfg.source), Path(cfg.out)
    if not source.exists():
        raise UserError(f"source={source} does not exist; give a published file or a run directory")
    if source.is_dir() and out.is_dir():
        raise UserError(f"out={out} is a folder; give the file to write")
    if source.is_file() and out.is_file():
        raise UserError(f"out={out} is a file; give a folder")
    if is_tokenizer(cfg.family, source):
        written, different = convert_tokenizer(cfg.family, source, out)
        print(f"wrote {written} (sha256 {sha256(written)[:16]}); {different} labels differ")
        return
    before = load_upstream(cfg.family, checkpoint=source)
    task = load_objective(source, before)
    if source.is_dir():
        registry.module("upstream", cfg.family).PUBLISHED.write(before, out, task)
        written = out
    else:
        arguments = registry.module("upstream", cfg.family).PUBLISHED.read(source).task_config
        export_upstream(before, out, task=task, task_arguments=arguments)
        written = out / "model.safetensors"
    difference = largest_difference(before, load_upstream(cfg.family, checkpoint=out))
    print(f"wrote {written} (sha256 {sha256(written)[:16]}); hidden states differ by at most {difference:.1e}")
