"""Tokenizers by folder, stage and file; wrong ones get one clear line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import speechssl
from speechssl import configs, registry, testing
from speechssl.commands.main import dispatch
from speechssl.errors import UserError
from speechssl.hub import load_upstream
from speechssl.interfaces import Tokenizer
from speechssl.tokenizer_hub import load_tokenizer, tokenizer_folder
from speechssl.train.checkpoint import export_tokenizer, export_upstream

FIXTURES = Path(__file__).parent / "fixtures"
DEBUG = {"hidden_size": 48, "num_layers": 2, "num_heads": 3, "embedding_size": 32, "conv_positions": 16}
KINDS = {
    "random": {"num_codes": 30, "code_size": 8},
    "kmeans": {"num_codes": 30},
    "distilled": {"num_codes": 30, "code_size": 8, "upstream": DEBUG},
}


def made(kind: str) -> Tokenizer:
    torch.manual_seed(0)
    tokenizer = registry.build_tokenizer("beats", kind, KINDS[kind])
    generator = torch.Generator().manual_seed(0)
    if kind == "kmeans":
        tokenizer.fit(torch.randn(100, 256, generator=generator), generator)
    if kind == "distilled":
        tokenizer.quantizer.initialise(torch.randn(30, 8, generator=generator), torch.ones(30))
    return tokenizer.eval()


def labels(tokenizer: Tokenizer) -> Tensor:
    return tokenizer.tokenize(testing.speech_like([16000, 9000]))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three stages: two tokenizers with an encoder in between."""
    stages = tmp_path / "run" / "stages"
    export_tokenizer(made("random"), stages / "01-tokenizer-1" / "export")
    torch.manual_seed(7)
    export_upstream(registry.build_upstream("beats", DEBUG), stages / "02-encoder-1" / "export")
    export_tokenizer(made("distilled"), stages / "03-tokenizer-2" / "export", training={"steps": 5})
    return tmp_path / "run"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_exported_folder_gives_the_same_tokenizer(kind: str, tmp_path: Path) -> None:
    export_tokenizer(made(kind), tmp_path / "export", training={"seed": 3})
    for name in (tmp_path, tmp_path / "export", f"beats:{tmp_path}"):
        again = load_tokenizer(name)
        assert (again.family, again.kind, again.config) == ("beats", kind, made(kind).config)
        assert torch.equal(labels(again), labels(made(kind)))
        assert not again.training
        assert not any(p.requires_grad for p in again.parameters())
    assert torch.equal(labels(speechssl.load_tokenizer("beats", checkpoint=tmp_path)), labels(made(kind)))
    assert json.loads((tmp_path / "export" / "config.json").read_text())["training"] == {"seed": 3}


def test_stages_by_name_and_number(run: Path) -> None:
    for stage, expected in ((None, "distilled"), ("tokenizer-1", "random"), ("01-tokenizer-1", "random")):
        assert load_tokenizer(run, stage=stage).kind == expected
    for stage, expected in ((1, "random"), (3, "distilled"), ("3", "distilled"), ("tokenizer-2", "distilled")):
        assert load_tokenizer("beats", checkpoint=run, stage=stage).kind == expected
    assert tokenizer_folder(run) == run / "stages" / "03-tokenizer-2" / "export"
    for wrong in ("tokenizer-3", 2, "encoder-1"):
        with pytest.raises(UserError, match="there are: 01-tokenizer-1, 03-tokenizer-2"):
            load_tokenizer(run, stage=wrong)


def test_the_encoder_of_a_distilled_tokenizer_is_an_upstream(run: Path) -> None:
    upstream = load_upstream(str(run / "stages" / "03-tokenizer-2"))
    assert testing.largest_difference(upstream, made("distilled").upstream) == 0
    assert upstream.config == made("distilled").config["upstream"]
    with pytest.raises(UserError, match="use speechssl"):
        load_upstream(str(run / "stages" / "01-tokenizer-1"))
    with pytest.raises(UserError, match="has to have family, format, tokenizer"):
        (run / "stages" / "02-encoder-1" / "export" / "tokenizer.safetensors").touch()
        load_tokenizer(run, stage=2)


def test_a_run_is_its_last_encoder(run: Path) -> None:
    encoder = load_upstream(str(run / "stages" / "02-encoder-1"))
    assert testing.largest_difference(load_upstream(str(run)), encoder) == 0
    assert testing.largest_difference(load_upstream(str(run / "stages" / "03-tokenizer-2")), encoder) > 0


def test_published_files(tmp_path: Path) -> None:
    golden = torch.load(FIXTURES / "beats_tokenizer.pt", weights_only=True)
    waveforms = torch.load(FIXTURES / "beats_fbank.pt", weights_only=True)["waveforms"]
    path = tmp_path / "tokenizer.pt"
    torch.save({"cfg": golden["cfg"], "model": golden["state_dict"]}, path)
    for tokenizer in (load_tokenizer("beats", checkpoint=path), load_tokenizer(f"beats:{path}")):
        assert torch.equal(tokenizer.tokenize(waveforms), golden["labels_no_mask"])
    export_tokenizer(tokenizer, tmp_path / "export")
    assert torch.equal(load_tokenizer(tmp_path).tokenize(waveforms), golden["labels_no_mask"])
    module = registry.module("upstream", "beats").PUBLISHED
    module.write_tokenizer(tokenizer, tmp_path / "again.pt")
    again = torch.load(tmp_path / "again.pt", weights_only=True)["model"]
    unread = ("quantize.embedding.cluster_size", "quantize.embedding.embed_avg")
    for name in golden["state_dict"].keys() - set(unread):
        assert torch.equal(again[name], golden["state_dict"][name]), name
    golden["state_dict"]["quantize.embedding.initted"].zero_()
    torch.save({"cfg": golden["cfg"], "model": golden["state_dict"]}, path)
    with pytest.raises(UserError, match="never initialised"):
        load_tokenizer("beats", checkpoint=path)


def test_overrides_reach_the_constructor(run: Path) -> None:
    assert load_tokenizer(run, stage=1, input_norm="none").input_norm == "none"
    with pytest.raises(UserError, match="nearest: 'input_norm'"):
        load_tokenizer(run, stage=1, inputnorm="none")
    with pytest.raises(UserError, match="does not fit these weights"):
        load_tokenizer(run, stage=1, num_codes=31)


def test_damaged_exports(run: Path) -> None:
    weights = run / "stages" / "01-tokenizer-1" / "export" / "tokenizer.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match="sha256 differs"):
        load_tokenizer(run, stage=1)
    weights.write_bytes(whole[:100])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_tokenizer(run, stage=1)
    weights.write_bytes(whole)
    config = weights.with_name("config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"format": 99}))
    with pytest.raises(UserError, match="upgrade speechssl"):
        load_tokenizer(run, stage=1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("beats", "comes without a trained tokenizer"),
        ("/no/such/folder", "does not exist"),
        ("beats:/nowhere.pt", "/nowhere.pt does not exist"),
        (__file__, "say FAMILY:"),
        (f"tera:{__file__}", "no published format of tokenizers"),
        (str(FIXTURES), "holds no tokenizer"),
    ],
)
def test_unknown_names(name: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load_tokenizer(name)


def test_a_family_that_does_not_fit(run: Path) -> None:
    with pytest.raises(UserError, match="nearest: 'beats'"):
        load_tokenizer("beat", checkpoint=run)
    with pytest.raises(UserError, match="a tokenizer of beats, not of tera"):
        load_tokenizer("tera", checkpoint=run)


def test_the_name_costs_nothing_until_it_is_used() -> None:
    code = "import sys, speechssl; assert 'torch' not in sys.modules; speechssl.load_tokenizer; speechssl.load_upstream"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_convert_command_keeps_the_codebook(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = registry.module("upstream", "beats").PUBLISHED
    config = configs.load("upstream", "beats/debug")[1]
    trained = registry.build_tokenizer("beats", "distilled", {"upstream": config, "num_codes": 16, "code_size": 8})
    trained.quantizer.initialise(torch.randn(16, 8), torch.ones(16))
    published.write_tokenizer(trained, tmp_path / "tokenizer.pt")
    dispatch(["convert", "family=beats", f"source={tmp_path / 'tokenizer.pt'}", f"out={tmp_path / 'ours'}"])
    dispatch(["convert", "family=beats", f"source={tmp_path / 'ours'}", f"out={tmp_path / 'back.pt'}"])
    assert capsys.readouterr().out.count("0 labels differ") == 2
    first, second = (torch.load(tmp_path / name, weights_only=True)["model"] for name in ("tokenizer.pt", "back.pt"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    export_tokenizer(registry.build_tokenizer("beats", "random", {"num_codes": 16}), tmp_path / "random")
    with pytest.raises(UserError, match="holds a random tokenizer, which beats publishes no file layout for"):
        dispatch(["convert", "family=beats", f"source={tmp_path / 'random'}", f"out={tmp_path / 'random.pt'}"])
