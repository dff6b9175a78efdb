from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl.commands.main import main


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for label in ("cat", "dog"):
        (tmp_path / "in" / label).mkdir(parents=True)
        for i in range(10):
            samples = np.random.default_rng(i).uniform(-0.5, 0.5, 8000)
            soundfile.write(tmp_path / "in" / label / f"{i}.wav", samples, 16000)
    (tmp_path / "in" / "dog" / "bad.wav").write_text("not audio")
    return tmp_path / "in"


def test_prepare_says_what_is_there(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    main(
        [
            "prepare",
            "corpus=folder",
            f"source={source}",
            f"out={tmp_path / 'out'}",
            "options.dev_share=0.2",
            "workers=1",
        ]
    )
    text = capsys.readouterr().out
    assert "train" in text
    assert "skipped" in text
    assert "bad.wav" in text
    assert f"in is ready in {tmp_path / 'out'}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["corpus=folder", "source={source}/none"], "is no folder"),
        (["corpus=foldr", "source={source}"], "nearest: 'folder'"),
        (["corpus=folder", "source={source}", "options.dev_shar=0.1"], "nearest: 'dev_share'"),
        (["corpus=folder", "source={source}", "options.seed=1"], "write seed="),
        (["corpus=folder", "source={source}", "label=parent"], "nearest"),
        (["source={source}"], "prepare needs corpus="),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", f"out={tmp_path / 'out'}", *(a.format(source=source) for a in arguments)])
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in error
    assert error.count("\n") == 1
