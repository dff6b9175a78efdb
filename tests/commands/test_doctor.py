"""The doctor names what does not fit together and what to type."""

from pathlib import Path

import pytest

from speechssl.commands import doctor


def pretend(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    real = doctor.version
    names = {name.replace("_", "-"): value for name, value in versions.items()}
    monkeypatch.setattr(doctor, "version", lambda package: names[package] if package in names else real(package))


def test_mismatched_pair(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    pretend(monkeypatch, torch="2.13.0+cpu", torchaudio="2.11.0")
    with pytest.raises(SystemExit) as stop:
        doctor.run_plain([])
    out = capsys.readouterr().out
    assert stop.value.code == 1
    assert "[!!] torchaudio 2.11.0 does not fit torch 2.13.0+cpu" in out
    assert 'pip install --force-reinstall "torch==2.11.*" "torchaudio==2.11.*"' in out


def test_same_release_but_other_build(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    pretend(monkeypatch, torch="2.11.0+cpu", torchaudio="2.11.0")
    monkeypatch.setattr(doctor, "missing_library", lambda package: "libcudart.so.13")
    with pytest.raises(SystemExit) as stop:
        doctor.run_plain([])
    assert stop.value.code == 1
    assert "needs libcudart.so.13, which this build of torch 2.11.0+cpu lacks" in capsys.readouterr().out


def test_no_torchaudio_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda package: None if package == "torchaudio" else "2.11.0")
    assert doctor.pairs() == []
    assert any("speechssl[torchaudio]" in text for status, text in doctor.optional() if status == "--")


def test_a_missing_core_package_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, soxr=None)
    assert ("!!", "soxr is missing; type: pip install speechssl") in doctor.core()


def test_library_names_are_read_from_an_extension(tmp_path: Path) -> None:
    library = tmp_path / "ext.so"
    library.write_bytes(b"\x7fELF\0libc10.so\0libcudart.so.13\0libtorch_cuda.so\0more")
    assert doctor.needed(library) == ["libcudart.so.13", "libtorch_cuda.so"]
