"""A user's own code as an upstream: what it may return, what is found out about it, and what is refused."""

import sys
from pathlib import Path

import pytest
import torch

from speechssl import testing
from speechssl.errors import UserError
from speechssl.hub import check_name, load_upstream, weights_sha256
from speechssl.interfaces import Upstream

CODE = '''
"""An encoder that knows nothing of this package."""
import torch
from torch import nn
from helper_of_mine import SCALE


class Plain(nn.Module):
    def __init__(self, hidden_size: int = 8, returns: str = "list"):
        super().__init__()
        self.layer, self.returns = nn.Conv1d(1, hidden_size, 400, 320), returns

    def forward(self, waveforms):
        state = SCALE * self.layer(waveforms[:, None]).transpose(1, 2)
        answers = {
            "tensor": state,
            "list": [state, state.relu()],
            "pooled": state.mean(1),
            "clip": state.mean(1, keepdim=True),
            "ragged": [state, state[..., 1:]],
            "text": "nothing",
        }
        return answers[self.returns]


class Rated(Plain):
    sample_rate, downsample_rate, min_samples = 8000, 320, 4000


def make(checkpoint: str | None = None):
    return Plain(4 if checkpoint is None else int(open(checkpoint).read()))


def nothing():
    return 3


ready = Plain(5)
number = 7
'''


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "helper_of_mine.py").write_text("SCALE = 2.0\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "needy.py").write_text("import no_such_package_at_all\n")
    monkeypatch.chdir(tmp_path)
    yield "python:mine.py"
    for name in ("helper_of_mine", "mine"):
        sys.modules.pop(name, None)


def test_a_plain_module(file: str) -> None:
    before = list(sys.path)
    upstream = load_upstream(f"{file}:Plain", hidden_size=6)
    assert sys.path == before
    assert (upstream.num_layers, upstream.hidden_size, upstream.downsample_rate) == (1, 6, 320)
    assert (upstream.sample_rate, upstream.min_samples, upstream.family) == (16000, 800, "python")
    assert not any(parameter.requires_grad for parameter in upstream.parameters())
    testing.check_upstream(upstream)


@torch.no_grad()
def test_equals_the_module_itself(file: str) -> None:
    upstream = load_upstream(f"{file}:Plain")
    waveforms = testing.speech_like([16000, 9000])
    found = upstream(waveforms)
    assert found.lengths.tolist() == [49, 27]
    for row, waveform in enumerate(waveforms):
        for state, expected in zip(found.hidden_states, upstream.module(waveform[None]), strict=True):
            torch.testing.assert_close(state[row, : expected.shape[1]], expected[0], rtol=0, atol=0)


def test_a_single_tensor_a_function_an_object_and_a_module_that_can_be_imported(file: str) -> None:
    assert load_upstream(f"{file}:Plain", returns="tensor").num_layers == 0
    assert load_upstream(f"{file}:make").hidden_size == 4
    assert load_upstream(f"{file}:ready").hidden_size == 5
    assert load_upstream("python:mine:Plain").hidden_size == 8
    assert load_upstream(f"python:{Path('mine.py').resolve()}:Plain").hidden_size == 8


def test_a_checkpoint_is_a_setting(file: str) -> None:
    Path("weights.txt").write_text("6")
    for name, settings in ((f"{file}:make:weights.txt", {}), (f"{file}:make", {"checkpoint": "weights.txt"})):
        assert load_upstream(name, **settings).hidden_size == 6
    for call in (check_name, load_upstream):
        with pytest.raises(UserError, match=r"checkpoint absent.txt of python:mine.py:make:absent.txt does not exist"):
            call(f"{file}:make:absent.txt")


def test_what_the_module_says_of_itself_counts(file: str) -> None:
    upstream = load_upstream(f"{file}:Rated")
    assert (upstream.sample_rate, upstream.downsample_rate, upstream.min_samples) == (8000, 320, 4000)
    assert upstream([torch.zeros(10)]).hidden_states[0].shape == (1, 12, 8)
    assert load_upstream(f"{file}:Rated", returns="clip").downsample_rate == 320


class Own(Upstream):
    """An upstream of ours, in somebody's package."""

    def __init__(self, downsample_rate: int | None = 320):
        super().__init__()
        self.hidden_size, self.num_layers = 2, 0
        if downsample_rate:
            self.downsample_rate = downsample_rate


def test_an_upstream_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("package_of_mine")
    module.Own, module.__spec__ = Own, type("Spec", (), {"origin": __file__})()
    monkeypatch.setitem(sys.modules, "package_of_mine", module)
    assert isinstance(load_upstream("python:package_of_mine:Own"), Own)
    with pytest.raises(UserError, match="does not set downsample_rate"):
        load_upstream("python:package_of_mine:Own", downsample_rate=None)


def test_the_digest_follows_weights_settings_and_code(file: str) -> None:
    torch.manual_seed(5)
    first = weights_sha256(load_upstream(f"{file}:Plain"))
    torch.manual_seed(6)
    state = torch.random.get_rng_state()
    assert weights_sha256(load_upstream(f"{file}:Plain")) == first
    assert torch.equal(torch.random.get_rng_state(), state)
    assert weights_sha256(load_upstream(f"{file}:Plain", returns="tensor")) != first
    Path("mine.py").write_text(CODE.replace("relu", "tanh"))
    assert weights_sha256(load_upstream(f"{file}:Plain")) != first


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.py", r"does not say what to use; expected python:FILE.py:NAME"),
        ("mine.py:", "does not say what to use"),
        ("absent.py:Plain", "no file absent.py here"),
        ("no_such.module:Plain", "no module no_such.module can be imported"),
        ("no_such_module:Plain", "no module no_such_module can be imported"),
    ],
)
def test_what_is_not_there_is_noticed_before_anything_runs(file: str, name: str, message: str) -> None:
    for call in (check_name, load_upstream):
        with pytest.raises(UserError, match=message):
            call(f"python:{name}")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mine.py:Plian", {}, "no class or function Plian there; nearest: 'Plain'"),
        ("mine.py:number", {}, "no class or function number"),
        ("mine.py:nothing", {}, "gives a int; expected a torch.nn.Module or an Upstream"),
        ("mine.py:Plain", {"hiden_size": 3}, "hiden_size"),
        ("mine.py:ready", {"hidden_size": 3}, "is an object and takes no settings, found hidden_size"),
        ("mine.py:Plain", {"returns": "pooled"}, r"hidden states \(1, T, D\) .* found \[\(1, 8\)\]"),
        ("mine.py:Plain", {"returns": "ragged"}, r"tensors of one shape; found \[\(1, 49, 8\), \(1, 49, 7\)\]"),
        ("mine.py:Plain", {"returns": "text"}, "found str"),
        ("mine.py:Plain", {"returns": "clip"}, r"gives 1 frames for 1 s and 1 for 3 s; .* downsample_rate"),
        ("broken.py:f", {}, r"broken.py cannot be imported: .*invalid syntax"),
        ("needy.py:f", {}, r"cannot be imported: .* No module named 'no_such_package_at_all'"),
    ],
)
def test_refused(file: str, name: str, settings: dict, message: str) -> None:
    check_name(f"python:{name}")
    with pytest.raises(UserError, match=message):
        load_upstream(f"python:{name}", **settings)


def test_a_module_that_fails_says_on_what(file: str) -> None:
    Path("wrong.py").write_text("from torch import nn\nf = nn.Linear(3, 4)\n")
    with pytest.raises(
        UserError, match=r"wrong.py:f fails on a waveform \(1, 16000\) of float32: RuntimeError: mat1 and mat2"
    ):
        load_upstream("python:wrong.py:f")


STRIDED = """
import torch
from torch import nn


class Strided(nn.Module):
    def __init__(self, size: int, stride: int, rate: float = 0.0, fails: str = ""):
        super().__init__()
        self.layer, self.rate = nn.Conv1d(1, 4, size, stride), rate
        if fails:
            raise KeyError(fails)

    def forward(self, waveforms):
        state = self.layer(waveforms[:, None]).transpose(1, 2)
        return nn.functional.dropout(state, self.rate) if self.rate else (state, state)
"""


@pytest.mark.parametrize(("size", "stride"), [(400, 441), (1024, 321), (2560, 2560), (400, 160), (7000, 5000)])
def test_frame_rate_and_shortest_audio_are_measured(file: str, size: int, stride: int) -> None:
    Path("strided.py").write_text(STRIDED)
    upstream = load_upstream("python:strided.py:Strided", size=size, stride=stride)
    assert upstream.downsample_rate == stride
    assert size <= upstream.min_samples < max(2 * size, 801)
    assert upstream([torch.zeros(10)]).lengths.tolist() == [1 + (upstream.min_samples - size) // stride]


def test_a_module_that_is_random_in_eval_mode_is_refused(file: str) -> None:
    Path("strided.py").write_text(STRIDED)
    before = torch.random.get_rng_state()
    with pytest.raises(UserError, match=r"something else when it hears the same again; .*training=self.training"):
        load_upstream("python:strided.py:Strided", size=400, stride=320, rate=0.1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_code_that_fails_is_told_with_its_place(file: str) -> None:
    Path("strided.py").write_text(STRIDED)
    with pytest.raises(UserError, match=r"Strided fails: KeyError: 'no such key' \(strided.py, line 11\)"):
        load_upstream("python:strided.py:Strided", size=400, stride=320, fails="no such key")
    Path("named.py").write_text("scale = 2\nscael + 1\n")
    with pytest.raises(UserError, match=r"cannot be imported: NameError: name 'scael' .* \(named.py, line 2\)"):
        load_upstream("python:named.py:f")


def test_what_a_module_says_of_itself_is_checked(file: str) -> None:
    Path("net.py").write_text(f"{STRIDED}\nclass Net(Strided):\n    sample_rate = '16k'\n")
    with pytest.raises(UserError, match="sample_rate expects a whole number above 0, found '16k'"):
        load_upstream("python:net.py:Net", size=400, stride=320)
    Path("nan.py").write_text(STRIDED.replace("(state, state)", "state * float('nan')"))
    with pytest.raises(UserError, match="gives values that are not finite"):
        load_upstream("python:nan.py:Strided", size=400, stride=320)
    Path("weights.pt").write_text("x")
    Path("load.py").write_text("import torch\ndef net(checkpoint):\n    return torch.load(checkpoint)\n")
    with pytest.raises(UserError, match=r"net:weights.pt fails: UnpicklingError: .* \(load.py, line 3\)"):
        load_upstream("python:load.py:net:weights.pt")


def test_every_file_gets_what_lies_beside_it(tmp_path: Path) -> None:
    code = "from torch import nn\nfrom part import size\nmake = lambda: nn.Conv1d(1, 3, size, 320)\n"
    wrapped = "class Net(nn.Sequential):\n    def forward(self, x):\n        return super().forward(x[:, None]).mT\n"
    for name, size in (("one", 400), ("two", 640)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part.py").write_text(f"size = {size}\n")
        (tmp_path / name / "net.py").write_text(code + wrapped + "net = lambda: Net(make())\n")
    names = [f"python:{tmp_path}/{name}/net.py:net" for name in ("one", "two", "one")]
    upstreams = [load_upstream(name) for name in names]
    assert [upstream.module[0].kernel_size[0] for upstream in upstreams] == [400, 640, 400]
    digests = [weights_sha256(upstream) for upstream in upstreams]
    assert digests[0] == digests[2]
    (tmp_path / "one" / "part.py").write_text("size = 400  # as before\n")
    assert weights_sha256(load_upstream(names[0])) != digests[0]


def test_a_checkpoint_counts_by_what_is_in_it(file: str) -> None:
    for name, text in (("a.txt", "6"), ("b.txt", "6"), ("c.txt", "6\n")):
        Path(name).write_text(text)
    a, b, c = (weights_sha256(load_upstream(f"{file}:make:{name}.txt")) for name in "abc")
    assert a == b != c
