"""Published checkpoint to ours and back, checked on the spot.

`source=states.ckpt out=folder` writes an exported folder that `load_upstream(folder)` reads; `source=run_dir
out=states.ckpt` writes the family's published layout. What is written is read again and held against the source, and
where the original code can be imported against that too, hidden state by hidden state. The differences are printed and
kept in `parity.json`; above `tolerance` nothing is written. Tokenizers are told from encoders; of these, labels are
compared as well.
"""

from omegaconf import DictConfig

from speechssl.commands.console import start


def run(cfg: DictConfig) -> None:
    """Convert in the direction that `source` tells (a file or a folder), and report the differences."""
    from speechssl.deploy.conversion import convert
    from speechssl.deploy.record import table

    start()
    record = convert(cfg.family, str(cfg.source), str(cfg.out), cfg.against, cfg.tolerance)
    print(table(record))
    for file in record["written"]:
        print(f"wrote {file['name']} to {cfg.out} ({file['bytes'] / 1e6:.1f} MB, sha256 {file['sha256'][:16]})")
