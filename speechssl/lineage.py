"""What a stage of a pretraining starts from: what earlier stages left, and a teacher that is given."""

from pathlib import Path

from speechssl.data.labels import StoredLabels
from speechssl.errors import UserError
from speechssl.files import read_json
from speechssl.hub import load_upstream, weights_sha256
from speechssl.interfaces import Parent, Tokenizer, Upstream
from speechssl.tokenizer_hub import load_tokenizer
from speechssl.train.initial import labels_seen
from speechssl.train.stages import LABELS


def open_left(folder: Path) -> Upstream | Tokenizer | StoredLabels:
    """Return what a stage left in its folder: labels, a tokenizer or an encoder."""
    if (folder / LABELS).is_dir():
        return StoredLabels(folder / LABELS)
    export = folder.resolve() / "export"  # a relative path may read like a family's name
    description = read_json(export / "config.json")
    return load_tokenizer(str(export)) if "tokenizer" in description else load_upstream(str(export))


def load_teacher(name: str, family: str) -> Parent:
    """Return a model of a family to distil from, by any name that `load_upstream` knows.

    Its facts hold "labels_seen": True for a model that was fine-tuned or descends from one, False for one that is known
    not to, None for a published one, which does not tell.

    Raises:
        UserError: no such model, or one of another family.
    """
    upstream = load_upstream(name)
    if upstream.family != family:
        raise UserError(f"teacher={name} is of the family {upstream.family}, but {family} is to be trained")
    classifies = getattr(upstream, "classifier", None) is not None
    return Parent(name, upstream, weights_sha256(upstream), {"labels_seen": classifies or labels_seen(name)})
