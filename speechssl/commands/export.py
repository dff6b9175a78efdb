"""Waveform-in programs of a model (ONNX, torch.export), or a folder to publish; written only once they agree with it.

A program takes any batch and any length, has the frontend inside, and needs no line of this project. Of a pretraining
run it gives hidden states, of a result of a benchmark the outputs of its head; what it takes to read them is inside.
"""

from omegaconf import DictConfig, OmegaConf

from speechssl.commands.console import start


def run(cfg: DictConfig) -> None:
    """Export, and say how far every output is from the model's."""
    from speechssl.deploy.export import export

    start(cfg.num_threads)
    settings = {key: value for key, value in OmegaConf.to_container(cfg).items() if key != "num_threads"}
    written = export(**settings)
    for found in written.agreement:
        print(f"{found.name}: largest difference {found.absolute:.1e}, of values up to {found.largest:.3g}")
    for found in written.quantised:
        print(
            f"{found.name} with {cfg.quantise} weights: off by {100 * found.error:.1f} % (root mean square), largest "
            f"difference {found.absolute:.2g}, {100 * found.same:.1f} % of largest elements stay the same"
        )
    smaller = f", {written.full_size / written.size:.1f} times smaller" if written.quantised else ""
    print(f"wrote {written.path} ({written.size / 1e6:.1f} MB{smaller})")
