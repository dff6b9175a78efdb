"""BEATs' tokenizers: labels equal to the original, and independent of batch, padding and what ran before."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl import registry, testing
from speechssl.errors import UserError
from speechssl.nn import kmeans
from speechssl.upstream.beats import convert
from speechssl.upstream.beats.patches import to_patches
from speechssl.upstream.beats.tokenizers import TOKENIZERS, DistilledTokenizer, PatchKMeans, RandomProjection

FIXTURES = Path(__file__).parents[1] / "fixtures"
DEBUG = {"hidden_size": 48, "num_layers": 2, "num_heads": 3, "embedding_size": 32, "conv_positions": 16}
LENGTHS = [16000, 9000, 12345, 2800]

each_kind = pytest.mark.parametrize("kind", sorted(TOKENIZERS))


def made(kind: str, seed: int = 0) -> torch.nn.Module:
    """Return a small tokenizer that is ready."""
    torch.manual_seed(seed)
    small = {"num_codes": 40} | ({"code_size": 8, "upstream": DEBUG} if kind == "distilled" else {})
    tokenizer = registry.build_tokenizer("beats", kind, small)
    generator = torch.Generator().manual_seed(seed)
    if kind == "kmeans":
        cells, _ = tokenizer.spectrogram(*audio())
        tokenizer.fit(to_patches(cells).flatten(0, 1), generator)
    if kind == "distilled":
        tokenizer.quantizer.initialise(torch.randn(40, 8, generator=generator), torch.ones(40))
    return tokenizer.eval()


def audio() -> tuple[Tensor, Tensor]:
    batch = testing.make_batch(LENGTHS)
    return batch.waveforms, batch.lengths


@pytest.fixture(scope="module")
def golden() -> dict:
    """Labels made with the authors' code, and the waveforms."""
    waveforms = torch.load(FIXTURES / "beats_fbank.pt", weights_only=True)
    return torch.load(FIXTURES / "beats_tokenizer.pt", weights_only=True) | waveforms


@pytest.fixture(scope="module")
def original(golden: dict, tmp_path_factory: pytest.TempPathFactory) -> DistilledTokenizer:
    """The authors' tokenizer, through the file format they publish."""
    path = tmp_path_factory.mktemp("published") / "tokenizer.pt"
    torch.save({"cfg": golden["cfg"], "model": golden["state_dict"]}, path)
    kind, config, state = convert.read_tokenizer(path)
    tokenizer = registry.build_tokenizer("beats", kind, config)
    tokenizer.load_state_dict(state)
    return tokenizer.eval()


def test_vectors_equal_the_original(original: DistilledTokenizer, golden: dict) -> None:
    cells, _ = original.spectrogram(golden["waveforms"], torch.full((3,), 40000))
    with torch.no_grad():
        vectors, _ = original.vectors(cells, torch.full((3,), cells.shape[1]))
    torch.testing.assert_close(F.normalize(vectors, dim=-1), F.normalize(golden["vectors"], dim=-1), atol=2e-5, rtol=0)


def test_labels_equal_the_original_by_each_mask_rule(original: DistilledTokenizer, golden: dict) -> None:
    waveforms, lengths = golden["waveforms"], golden["lengths"]
    assert torch.equal(original.tokenize(waveforms), golden["labels_no_mask"])
    exact = original.tokenize(waveforms, lengths)
    for row, count in enumerate([120, 80, 24]):
        assert torch.equal(exact[row, :count], golden["labels_exact"][row, :count])
        assert exact[row, count:].unique().tolist() in ([], [-1])
    official = original.tokenize(waveforms, lengths, mask_rule="official")
    for row, count in enumerate([120, 81, 28]):
        assert torch.equal(official[row, :count], golden["labels_official"][row, :count])
        assert official[row, count:].unique().tolist() in ([], [-1])
    alone = original.tokenize([waveforms[2, : int(lengths[2])]])
    assert torch.equal(alone[0], golden["labels_alone"])
    assert torch.equal(alone[0], exact[2, :24])
    assert not torch.equal(official[2, :24], alone[0])  # what the authors' rule does to a padded clip


def test_random_projection_equals_plain_arithmetic(golden: dict) -> None:
    math = golden["random_projection_math"]
    projected = math["X"] @ math["W"].T
    labels = kmeans.nearest(projected, F.normalize(math["V"], dim=1), unit=True)
    assert torch.equal(labels, math["labels_l2norm_both"])
    assert torch.equal(kmeans.nearest(projected, math["V"], unit=False), math["labels_euclid_plain"])
    normalised = F.layer_norm(projected, (16,))
    assert torch.equal(kmeans.nearest(normalised, math["V"], unit=False), math["labels_layernorm_y_raw_V"])


@pytest.mark.parametrize("input_norm", ["layernorm", "none"])
def test_random_projection_equals_a_loop(input_norm: str) -> None:
    tokenizer = RandomProjection(num_codes=50, code_size=24, input_norm=input_norm)
    waveforms, lengths = audio()
    cells, frames = tokenizer.spectrogram(waveforms, lengths)
    labels = tokenizer.codes(cells, frames)
    assert labels.shape == (4, 48)
    for row in range(4):
        for place in range(8 * (int(frames[row]) // 16)):
            column, band = divmod(place, 8)
            x = cells[row, 16 * column : 16 * column + 16, 16 * band : 16 * band + 16].flatten()
            if input_norm == "layernorm":
                x = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
            y = tokenizer.projection @ x
            distances = (y / y.norm() - tokenizer.codebook).square().sum(1)
            assert int(labels[row, place]) == int(distances.argmin())


def test_random_projection_is_drawn_in_private_and_kept_with_the_weights() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = RandomProjection(), RandomProjection(), RandomProjection(seed=46)
    assert torch.equal(torch.get_rng_state(), state)
    assert float(first.projection.std()) == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert not list(first.parameters())
    torch.testing.assert_close(first.codebook.norm(dim=1), torch.ones(1024))
    waveforms, lengths = audio()
    labels = first.tokenize(waveforms, lengths)
    assert torch.equal(again.tokenize(waveforms, lengths), labels)
    assert not torch.equal(other.tokenize(waveforms, lengths), labels)
    other.load_state_dict(first.state_dict())
    assert torch.equal(other.tokenize(waveforms, lengths), labels)


def test_loudness_changes_no_label_of_a_normalised_patch() -> None:
    """Twice as loud adds a constant to every cell of the logarithmic spectrogram."""
    cells = torch.randn(2, 64, 128, generator=torch.Generator().manual_seed(0))
    frames = torch.tensor([64, 64])
    labels = [
        RandomProjection(input_norm=norm).codes(cells + c, frames) for norm in ("layernorm", "none") for c in (0, 1)
    ]
    assert torch.equal(labels[0], labels[1])
    assert not torch.equal(labels[2], labels[3])


@each_kind
def test_labels_do_not_depend_on_the_batch(kind: str) -> None:
    tokenizer, (waveforms, lengths) = made(kind), audio()
    together = tokenizer.tokenize(F.pad(waveforms, (0, 5000)), lengths)
    assert together.dtype == torch.int64
    for row, length in enumerate(LENGTHS):
        alone = tokenizer.tokenize([waveforms[row, :length]])[0]
        count = 8 * ((1 + (length - 400) // 160) // 16)
        assert alone.shape == (count,)
        assert torch.equal(together[row, :count], alone)
        assert together[row, count:].unique().tolist() == [-1]
        assert 0 <= int(alone.min()) <= int(alone.max()) < tokenizer.num_codes
    assert len(together.unique()) > 5
    turned = tokenizer.tokenize(waveforms.flip(0), lengths.flip(0))
    assert torch.equal(turned.flip(0), together[:, : turned.shape[1]])


@each_kind
def test_labelling_changes_nothing(kind: str) -> None:
    tokenizer = made(kind).train()
    before = {name: tensor.clone() for name, tensor in tokenizer.named_buffers()}
    generator = torch.get_rng_state()
    first, again = tokenizer.tokenize(*audio()), tokenizer.tokenize(*audio())
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), generator)
    assert tokenizer.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in tokenizer.named_buffers())


@each_kind
def test_codes_of_a_spectrogram_equal_those_of_its_audio(kind: str) -> None:
    tokenizer = made(kind)
    assert torch.equal(tokenizer.codes(*tokenizer.spectrogram(*audio())), tokenizer.tokenize(*audio()))


@each_kind
def test_official_rule_counts_patches_as_the_authors_do(kind: str) -> None:
    waveforms = torch.randn(3, 40000, generator=torch.Generator().manual_seed(0)) * 0.1
    labels = made(kind).tokenize(waveforms, torch.tensor([40000, 26000, 9000]), mask_rule="official")
    assert (labels >= 0).sum(1).tolist() == [120, 81, 28]
    with pytest.raises(UserError, match="nearest: 'official'"):
        made(kind).tokenize(waveforms, mask_rule="offical")


@each_kind
def test_too_short_audio_is_refused(kind: str) -> None:
    tokenizer = made(kind)
    assert tokenizer.tokenize([torch.zeros(2800)]).shape == (1, 8)
    with pytest.raises(UserError, match="at least 2800 samples"):
        tokenizer.tokenize([torch.zeros(2799)])


@each_kind
def test_the_registry_remembers_all_arguments(kind: str) -> None:
    tokenizer = made(kind)
    assert (tokenizer.family, tokenizer.kind) == ("beats", kind)
    again = registry.build_tokenizer("beats", kind, tokenizer.config)
    again.load_state_dict(tokenizer.state_dict())
    assert torch.equal(again.eval().tokenize(*audio()), tokenizer.tokenize(*audio()))
    config = tokenizer.config["upstream"] if kind == "distilled" else tokenizer.config
    assert config["mean"] == 15.41663
    with pytest.raises(UserError, match="nearest: 'num_codes'"):
        registry.build_tokenizer("beats", kind, {"num_code": 3} | ({"upstream": {}} if kind == "distilled" else {}))


@each_kind
def test_statistics_of_the_corpus(kind: str) -> None:
    measured = {"mean": None, "std": None}
    config = made(kind).config
    config = config | ({"upstream": DEBUG | measured} if kind == "distilled" else measured)
    tokenizer = registry.build_tokenizer("beats", kind, config)
    assert not tokenizer.ready
    frontend = tokenizer.statistics_frontend()
    features, _ = frontend.unnormalized(*audio())
    tokenizer.set_statistics(features.mean((0, 1)), features.std((0, 1)))
    assert tokenizer.statistics_frontend() is None
    assert float(tokenizer.spectrogram.mean) == pytest.approx(float(features.mean()), rel=1e-4)
    assert made(kind).ready


def test_kmeans_labels_are_the_nearest_patches() -> None:
    tokenizer = made("kmeans")
    cells, frames = tokenizer.spectrogram(*audio())
    patches = to_patches(cells)
    expected = torch.cdist(patches, tokenizer.codebook[None].expand(4, -1, -1)).argmin(dim=2)
    labels = tokenizer.codes(cells, frames)
    assert torch.equal(labels[0], expected[0])
    assert torch.equal(labels[1, :24], expected[1, :24])


def test_kmeans_before_it_is_fitted() -> None:
    tokenizer = PatchKMeans(num_codes=8)
    assert not tokenizer.ready
    with pytest.raises(UserError, match="have not been found yet"):
        tokenizer.tokenize(*audio())
    with pytest.raises(UserError, match="at least as many patches, found 5"):
        tokenizer.fit(torch.zeros(5, 256))
    tokenizer.load_state_dict(PatchKMeans(num_codes=8).state_dict())
    assert not tokenizer.ready
    counts = tokenizer.fit(torch.randn(300, 256, generator=torch.Generator().manual_seed(0)))
    assert int(counts.sum()) == 300
    assert tokenizer.ready


def test_an_untrained_distilled_tokenizer_refuses() -> None:
    tokenizer = DistilledTokenizer(DEBUG, 16, 8)
    assert not tokenizer.ready
    before = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
    with pytest.raises(UserError, match="not been initialised"):
        tokenizer.tokenize(*audio())
    assert all(torch.equal(tensor, before[name]) for name, tensor in tokenizer.state_dict().items())


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("rando", {}, "nearest: 'random'"),
        ("random", {"input_norm": "layer"}, "layernorm, none"),
        ("random", {"num_codes": 1}, "num_codes of at least 2"),
        ("kmeans", {"num_codes": 1}, "num_codes of at least 2"),
        ("distilled", {}, "missing a required argument: 'upstream'"),
        ("distilled", {"upstream": {"num_layer": 3}}, "nearest: 'num_layers'"),
    ],
)
def test_wrong_settings(kind: str, config: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        registry.build_tokenizer("beats", kind, config)


def test_a_family_without_tokenizers() -> None:
    with pytest.raises(UserError, match="it has none at all"):
        registry.build_tokenizer("tera", "random", {})
    assert registry.tokenizer_kinds("tera") == []
    assert registry.tokenizer_kinds("beats") == ["distilled", "kmeans", "random"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["random", "kmeans"])
def test_labels_do_not_depend_on_the_device_or_autocast(kind: str) -> None:
    tokenizer = made(kind)
    cells, frames = tokenizer.spectrogram(*audio())
    expected = tokenizer.codes(cells, frames)
    tokenizer.cuda()
    with torch.autocast("cuda", torch.bfloat16):
        assert torch.equal(tokenizer.codes(cells.cuda(), frames.cuda()).cpu(), expected)


def test_labels_do_not_depend_on_autocast() -> None:
    cells = torch.randn(4, 320, 128, generator=torch.Generator().manual_seed(0))
    frames = torch.tensor([320] * 4)
    for tokenizer in (RandomProjection(), made("kmeans")):
        expected = tokenizer.codes(cells, frames)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(tokenizer.codes(cells, frames), expected)
