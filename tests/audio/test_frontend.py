"""What every frontend promises: padding, order, both paths, gradients, precision, statistics, errors."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from speechssl.audio import Frontend, KaldiFbank, LogMel
from speechssl.errors import UserError
from speechssl.testing import speech_like

FRONTENDS = {
    "log_mel": lambda **kw: LogMel(**kw),
    "log_mel_batch_padded": lambda **kw: LogMel(batch_padded=True, **kw),
    "log_mel_no_loudness": lambda **kw: LogMel(loudness_db=None, **kw),
    "kaldi": lambda **kw: KaldiFbank(**kw),
    "kaldi_deltas": lambda **kw: KaldiFbank(deltas=2, **kw),
    "ssast": lambda **kw: KaldiFbank(128, window="hann", center_waveform=True, **kw),
    "beats": lambda **kw: KaldiFbank(128, scale=2**15, **kw),
    "hamming": lambda **kw: KaldiFbank(window="hamming", remove_dc=False, **kw),
}
INVARIANT = [name for name in FRONTENDS if name != "log_mel_batch_padded"]
NORMALIZATIONS = ["none", "mean", "utterance"]


def batch(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    waveforms = nn.utils.rnn.pad_sequence(speech_like(lengths, seed), batch_first=True)
    return waveforms, torch.tensor(lengths)


@pytest.fixture(params=list(FRONTENDS))
def frontend(request: pytest.FixtureRequest) -> Frontend:
    return FRONTENDS[request.param](normalization="utterance")


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("name", INVARIANT)
def test_valid_frames_do_not_depend_on_padding(name: str, normalization: str) -> None:
    frontend = FRONTENDS[name](normalization=normalization)
    waveforms, lengths = batch([16000, 9000, 12345, 801])
    longer = nn.functional.pad(waveforms, (0, 5000))
    longer[:, 16000:] = float("nan")  # whatever lies in the padding
    together, frames = frontend(waveforms, lengths)
    padded, _ = frontend(longer, lengths)
    for row, (length, count) in enumerate(zip(lengths.tolist(), frames.tolist(), strict=True)):
        alone, _ = frontend(waveforms[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(together[row, :count], alone[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(padded[row, :count], alone[0], rtol=0, atol=1e-6)
        assert not together[row, count:].any()
        assert not padded[row, count:].any()


def test_the_order_of_the_batch_does_not_matter(frontend: Frontend) -> None:
    waveforms, lengths = batch([16000, 9000, 12345])
    features, frames = frontend(waveforms, lengths)
    turned, turned_frames = frontend(waveforms.flip(0), lengths.flip(0))
    assert torch.equal(turned.flip(0), features)
    assert torch.equal(turned_frames.flip(0), frames)


@pytest.mark.parametrize("name", list(FRONTENDS))
def test_blocks_and_batch_agree(name: str) -> None:
    """The fast path of a CPU against the plain batched one, over more than one block of frames."""
    frontend = FRONTENDS[name](normalization="none")
    waveforms, lengths = batch([100000, 9000, 82321, 801])
    for rms in (None, torch.tensor([0.1, 0.02, 0.05, 0.3])):
        by_block = frontend.by_block(waveforms, lengths, rms)
        by_batch = frontend.by_batch(waveforms, lengths, rms)
        for row, frames in enumerate(frontend.num_valid_frames(lengths, 100000).tolist()):
            torch.testing.assert_close(by_block[row, :frames], by_batch[row, :frames], rtol=0, atol=1e-4)


def test_a_waveform_that_wants_a_gradient_gets_one(frontend: Frontend) -> None:
    waveforms, lengths = batch([4000, 2500])
    plain, _ = frontend(waveforms, lengths)
    inside = (torch.arange(4000) < lengths[:, None]).float()
    waveforms.requires_grad_()
    features, _ = frontend(waveforms, lengths)
    torch.testing.assert_close(features.detach(), plain, rtol=0, atol=1e-2)
    features.square().mean().backward()
    assert waveforms.grad.isfinite().all()
    assert ((waveforms.grad != 0).float() * inside).sum() > 5000
    assert not (waveforms.grad * (1 - inside)).any()


def test_the_gradient_is_the_slope() -> None:
    frontend = LogMel(8, normalization="none")
    waveform = speech_like([1000])[0][None].requires_grad_()
    direction = speech_like([1000], seed=5)[0][None]
    length = torch.tensor([1000])
    frontend(waveform, length)[0].sum().backward()
    step = 1e-3
    with torch.no_grad():
        ahead, behind = (frontend(waveform + s * direction, length)[0].double().sum() for s in (step, -step))
    slope = (ahead - behind) / (2 * step)
    assert (waveform.grad * direction).sum().item() == pytest.approx(slope.item(), rel=2e-2)


def test_silence_has_a_finite_gradient(frontend: Frontend) -> None:
    waveforms = torch.zeros(1, 4000, requires_grad=True)
    frontend(waveforms, torch.tensor([4000]))[0].sum().backward()
    assert waveforms.grad.isfinite().all()


@pytest.mark.parametrize("wanted", [torch.bfloat16, torch.float16])
def test_autocast_and_casts_do_not_reach_the_frontend(frontend: Frontend, wanted: torch.dtype) -> None:
    waveforms, lengths = batch([4000, 2500])
    expected, _ = frontend(waveforms, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        by_blocks, _ = frontend(waveforms, lengths)
        by_batch = frontend(waveforms.clone().requires_grad_(), lengths)[0].detach()
    assert torch.equal(by_blocks, expected)
    assert by_batch.dtype == torch.float32
    torch.testing.assert_close(by_batch, expected, rtol=0, atol=1e-2)
    cast, _ = frontend.to(wanted)(waveforms, lengths)
    assert torch.equal(cast, expected)


def test_reduced_matmul_precision_is_switched_off_and_restored() -> None:
    waveforms, lengths = batch([16000])
    expected, _ = LogMel()(waveforms, lengths)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        features, _ = LogMel()(waveforms, lengths)
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(features, expected)


def test_a_frontend_built_and_used_under_inference_mode_can_be_trained_through() -> None:
    waveforms, lengths = batch([4000])
    with torch.inference_mode():
        frontend = KaldiFbank(deltas=1, normalization="utterance")
        frontend(waveforms, lengths)
    weight = nn.Linear(160, 1)
    weight(frontend(waveforms, lengths)[0]).sum().backward()
    waveforms.requires_grad_()
    frontend(waveforms, lengths)[0].square().sum().backward()
    assert waveforms.grad.isfinite().all()


def test_corpus_statistics_travel_and_are_required() -> None:
    waveforms, lengths = batch([16000, 9000])
    frontend = LogMel(normalization="corpus")
    with pytest.raises(UserError, match="has no statistics yet"):
        frontend(waveforms, lengths)
    raw, frames = frontend.unnormalized(waveforms, lengths)
    valid = torch.arange(raw.shape[1]) < frames[:, None]
    mean, std = raw[valid].double().mean(0), raw[valid].double().std(0)
    frontend.set_statistics(mean, std)
    features, _ = frontend(waveforms, lengths)
    expected = ((raw - mean) / std).masked_fill(~valid[..., None], 0).float()
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)
    loaded = LogMel(normalization="corpus")
    loaded.load_state_dict(frontend.state_dict())
    assert torch.equal(loaded(waveforms, lengths)[0], features)
    assert set(frontend.state_dict()) == {"corpus_mean", "corpus_std", "statistics_known"}
    loaded.load_state_dict(LogMel(normalization="corpus").state_dict())
    with pytest.raises(UserError, match="has no statistics yet"):
        loaded(waveforms, lengths)


def test_an_empty_filter_survives_corpus_normalisation() -> None:
    waveforms, lengths = batch([16000])
    frontend = KaldiFbank(128, normalization="corpus", std_factor=2)
    raw, _ = frontend.unnormalized(waveforms, lengths)
    frontend.set_statistics(raw[0].mean(0), raw[0].std(0))
    features, _ = frontend(waveforms, lengths)
    assert features[..., 3].abs().max() < 1e-4
    assert features[..., 4:].std() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (torch.zeros(79), torch.ones(79)),
        (torch.zeros(80), torch.full((80,), -1.0)),
        (torch.full((80,), torch.nan), torch.ones(80)),
    ],
)
def test_wrong_statistics_are_refused(mean: Tensor, std: Tensor) -> None:
    with pytest.raises(UserError, match=r"finite mean and std of shape \(80,\)"):
        LogMel(normalization="corpus").set_statistics(mean, std)
    with pytest.raises(UserError, match="not 'utterance'"):
        LogMel().set_statistics(torch.zeros(80), torch.ones(80))


def test_the_key_names_what_comes_before_normalisation() -> None:
    assert LogMel().key == LogMel(normalization="corpus").key
    assert LogMel().key.startswith("log_mel-80-")
    assert KaldiFbank(deltas=2).key.startswith("kaldi_fbank-240-")
    assert KaldiFbank(scale=2**15).key == KaldiFbank(scale=32768.0).key
    different = [
        LogMel(),
        LogMel(40),
        LogMel(loudness_db=None),
        LogMel(batch_padded=True),
        LogMel(hop_ms=20),
        KaldiFbank(),
        KaldiFbank(deltas=1),
        KaldiFbank(deltas=1, delta_window=9),
        KaldiFbank(window="hann"),
        KaldiFbank(scale=2**15),
        KaldiFbank(preemphasis=0.9),
        KaldiFbank(remove_dc=False),
        KaldiFbank(center_waveform=True),
        KaldiFbank(low_freq=60),
    ]
    assert len({frontend.key for frontend in different}) == len(different)


def test_copies_and_pickles_give_the_same_features(frontend: Frontend) -> None:
    waveforms, lengths = batch([4000])
    expected, _ = frontend(waveforms, lengths)
    for twin in (copy.deepcopy(frontend), pickle.loads(pickle.dumps(frontend))):
        assert torch.equal(twin(waveforms, lengths)[0], expected)
    assert not frontend.state_dict()
    assert not list(frontend.parameters())


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(560, 9000), min_size=1, max_size=4), extra=st.integers(0, 700))
def test_any_lengths(lengths: list[int], extra: int) -> None:
    generator = torch.Generator().manual_seed(sum(lengths))
    waveforms = 0.1 * torch.randn(len(lengths), max(lengths) + extra, generator=generator)
    counts = torch.tensor(lengths)
    for frontend in (SHARED_LOG_MEL, SHARED_KALDI):
        features, frames = frontend(waveforms, counts)
        assert torch.equal(frames, frontend.num_frames(counts))
        assert features.shape == (len(lengths), frontend.num_frames(torch.tensor(waveforms.shape[1])), 24)
        assert features.isfinite().all()
        row = lengths.index(min(lengths))
        alone, _ = frontend(waveforms[row : row + 1, : lengths[row]], counts[row : row + 1])
        torch.testing.assert_close(features[row, : frames[row]], alone[0], rtol=0, atol=1e-5)
        assert not features[row, frames[row] :].any()


SHARED_LOG_MEL, SHARED_KALDI = LogMel(24), KaldiFbank(8, deltas=2, normalization="utterance")


def test_frame_counts() -> None:
    samples = torch.tensor([400, 559, 560, 16000, 160000])
    assert KaldiFbank().num_frames(samples).tolist() == [1, 1, 2, 98, 998]
    assert LogMel().num_frames(samples).tolist() == [3, 4, 4, 101, 1001]


@pytest.mark.parametrize(
    ("frontend", "minimum"),
    [
        (LogMel(), 201),
        (KaldiFbank(), 400),
        (KaldiFbank(normalization="utterance"), 560),
        (LogMel(sample_rate=8000), 101),
    ],
)
def test_too_short_waveforms_are_refused(frontend: Frontend, minimum: int) -> None:
    frontend(torch.zeros(1, minimum), torch.tensor([minimum]))
    for waveforms in (torch.zeros(1, minimum - 1), torch.zeros(1, 1000)):
        with pytest.raises(UserError, match=f"at least {minimum} samples .*found {minimum - 1}"):
            frontend(waveforms, torch.tensor([minimum - 1]))


@pytest.mark.parametrize(
    ("waveforms", "lengths", "message"),
    [
        (torch.zeros(4000), torch.tensor([4000]), r"shape \(B, S\)"),
        (torch.zeros(1, 4000, dtype=torch.int16), torch.tensor([4000]), "int16"),
        (torch.zeros(2, 4000), torch.tensor([4000]), r"\(2,\) integer lengths"),
        (torch.zeros(1, 4000), torch.tensor([4000.0]), "integer lengths"),
        (torch.zeros(1, 4000), torch.tensor([4001]), "length of 4001 samples"),
    ],
)
def test_wrong_input_is_named(waveforms: Tensor, lengths: Tensor, message: str) -> None:
    for frontend in (LogMel(), KaldiFbank()):
        with pytest.raises(UserError, match=message):
            frontend(waveforms, lengths)


def test_float64_and_float16_waveforms_are_computed_in_float32() -> None:
    waveforms, lengths = batch([4000])
    expected, _ = LogMel()(waveforms, lengths)
    assert torch.equal(LogMel()(waveforms.double(), lengths)[0], expected)
    half, _ = LogMel()(waveforms.half(), lengths)
    assert half.dtype == torch.float32


def test_importing_the_package_is_cheap() -> None:
    """Reading needs no torch; the package itself needs neither torch nor soundfile."""
    program = (
        "import sys, speechssl.audio as a; assert not {'torch', 'soundfile', 'numpy'} & set(sys.modules);"
        "a.read_audio; assert 'torch' not in sys.modules; import speechssl.audio.resampling;"
        "from speechssl.audio import resample; assert callable(resample); assert 'LogMel' in dir(a)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_accelerator_gives_the_same(frontend: Frontend) -> None:
    waveforms, lengths = batch([16000, 9000])
    expected, frames = frontend(waveforms, lengths)
    torch.set_float32_matmul_precision("high")
    try:
        features, counts = frontend.cuda()(waveforms.cuda(), lengths.cuda())
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(counts.cpu(), frames)
    torch.testing.assert_close(features.cpu(), expected, rtol=0, atol=1e-2)
