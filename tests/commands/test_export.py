"""The export command tells what it wrote and how well it agrees, and of wrong input in one line."""

from pathlib import Path

import pytest

from speechssl.commands import main as cli

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def test_a_program_is_written_and_its_difference_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["export", "run=fbank_no_cmvn", "format=torch", f"out={tmp_path / 'a.pt2'}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("hidden_state_0: largest difference ")
    assert lines[1].startswith(f"wrote {tmp_path / 'a.pt2'} (")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt2"]


def test_wrong_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for keys, expected in (
        (["run=nothing/there"], "unknown upstream"),
        (["run=fbank", "format=tflite"], "format expects onnx, torch, hub"),
        (["run=fbank", "quantize=int8"], "nearest: 'quantise'"),
        (["run=fbank", "quantise=int4"], "quantise expects int8"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["export", f"out={tmp_path / 'a.onnx'}", *keys])
        assert stopped.value.code == 2
        assert expected in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_eight_bits_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["export", "run=beats/debug@random", f"out={tmp_path / 'a.onnx'}", "quantise=int8"])
    told = capsys.readouterr().out
    assert "hidden_state_2 with int8 weights: off by" in told
    assert "times smaller" in told
