"""What stages start from: what others left, and teachers of every kind."""

from pathlib import Path

import pytest
import torch

from speechssl.errors import UserError
from speechssl.files import write_json
from speechssl.hub import load_upstream, weights_sha256
from speechssl.lineage import load_teacher, open_left
from speechssl.train.checkpoint import export_upstream, write_tensors


def test_a_teacher_knows_whether_labels_were_seen(tmp_path: Path) -> None:
    upstream = load_upstream("tera/debug@random")
    for name, training, expected in (
        ("unlabelled", {"labels_seen": False}, False),
        ("descendant", {"labels_seen": True}, True),
        ("older", {}, None),
    ):
        export_upstream(upstream, tmp_path / name, training=training)
        teacher = load_teacher(str(tmp_path / name), "tera")
        assert teacher.facts == {"labels_seen": expected}
        assert teacher.sha256 == weights_sha256(upstream)
    export_upstream(upstream, tmp_path / "tuned", training={"labels_seen": False})
    write_json(tmp_path / "tuned" / "head.json", {})
    assert load_teacher(str(tmp_path / "tuned"), "tera").facts == {"labels_seen": True}


def test_a_teacher_of_another_family_is_refused(tmp_path: Path) -> None:
    export_upstream(load_upstream("tera/debug@random"), tmp_path)
    with pytest.raises(UserError, match="is of the family tera, but beats is to be trained"):
        load_teacher(str(tmp_path), "beats")


def test_what_a_stage_left_is_told_apart(tmp_path: Path) -> None:
    export_upstream(load_upstream("tera/debug@random"), tmp_path / "encoder" / "export")
    assert open_left(tmp_path / "encoder").family == "tera"
    folder = tmp_path / "odd" / "export"
    write_tensors(folder / "model.safetensors", {"x": torch.zeros(1)})
    with pytest.raises(UserError, match="does not exist"):
        open_left(tmp_path / "odd")
