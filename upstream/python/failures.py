"""What goes wrong in somebody's code, in one line that says where."""

import pickle
import sysconfig
import traceback
from pathlib import Path

from speechssl.errors import UserError

FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)
LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def told(error: Exception) -> str:
    """Return the first line of an exception, its kind, and the innermost place that is in no library."""
    if isinstance(error, UserError):
        return str(error)
    line = (str(error).strip() or "no message").splitlines()[0]
    ours = str(Path(__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    places = [one for one in frames if not one.filename.startswith(("<", ours, *LIBRARIES))]
    where = f" ({Path(places[-1].filename).name}, line {places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {line}{where}"
