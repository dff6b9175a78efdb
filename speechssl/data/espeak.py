"""Speech from text with espeak-ng, the same samples for the same request whatever was spoken before.

espeak-ng (https://github.com/espeak-ng/espeak-ng, used here through the espeakng-loader package and ctypes)
is built for screen readers and carries state from one utterance to the next. Three kinds matter for a
corpus:

- voice and parameters stay as they were set, so every request sets all of them;
- breath noise comes from one generator, so every request seeds it;
- pitch flutter and roughness count on across utterances and cannot be reset. Voices here have flutter 0 and
  a roughness outside its table, which turns both off. Variety comes from what `Voice` has and from what the
  caller does with the samples. The Klatt synthesiser, which has state of its own, is not used.

Voice files are read from espeak-ng's data folder only, so a temporary one is made of links and our own
files. Its path is short, too: espeak-ng cuts paths of more than 159 bytes.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechssl.errors import UserError

SYNCHRONOUS = 2  # audio is handed to the callback before espeak_Synth returns
DONT_EXIT = 0x8000  # report failures instead of ending the process
UTF8 = 1
BUFFER_MILLISECONDS = 200
RATE, VOLUME, PITCH, RANGE, PUNCTUATION, CAPITALS, WORD_GAP = 1, 2, 3, 4, 5, 6, 7  # espeak_PARAMETER
QUIET = 50  # of 100: loud voices clip at 100, and the gain control that follows is state again
ROUGHNESS_OFF = 8

Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """A speaker.

    Attributes:
        gender: "female" or "male"; a label, it does not change the sound.
        pitch: lowest and highest fundamental frequency in Hz of ordinary speech.
        formants: frequency, strength and bandwidth of formants 0 to 8, in percent of the language's own.
        tone: pairs of frequency in Hz and amplitude (0 to 255): the spectral slope of voiced sounds.
        breath: noise in vowels, 0 (none) to about 20.
        consonants: strength in percent of unvoiced and of voiced consonant noise.
    """

    gender: str
    pitch: tuple[int, int]
    formants: tuple[tuple[int, int, int], ...]
    tone: tuple[int, ...] = (600, 170, 1200, 135, 2000, 110)
    breath: int = 0
    consonants: tuple[int, int] = (100, 100)

    def as_file(self) -> str:
        """Return the voice as an espeak-ng variant file."""
        lines = [
            "language variant",
            "name speaker",
            f"gender {self.gender}",
            f"pitch {self.pitch[0]} {self.pitch[1]}",
            "flutter 0",
            f"roughness {ROUGHNESS_OFF}",
            f"consonants {self.consonants[0]} {self.consonants[1]}",
            "tone " + " ".join(map(str, self.tone)),
            *(f"formant {number} {f} {s} {w}" for number, (f, s, w) in enumerate(self.formants)),
        ]
        if self.breath:
            lines.append("breath 0 " + " ".join([str(self.breath)] * 6))
        return "\n".join(lines) + "\n"


def speak(
    text: str, language: str, voice: Voice, *, rate: int, pitch: int, pitch_range: int, seed: int
) -> tuple[np.ndarray, int]:
    """Return mono float32 samples (S,) of a spoken text, and their rate in Hz.

    Args:
        text: in the language's own spelling; punctuation sets the melody.
        language: an espeak-ng language, for example "en-us", "de", "fr".
        voice: who speaks.
        rate: words per minute, 80 to 450.
        pitch: 0 to 99, 50 = the voice's own.
        pitch_range: 0 to 99, 50 = the voice's own.
        seed: of the breath noise.

    Raises:
        UserError: espeak-ng is missing, or does not know the language.
    """
    return _engine().speak(text, language, voice, (rate, pitch, pitch_range), seed)


@functools.cache
def _engine() -> "_Engine":
    return _Engine()


class _Engine:
    """The library and its callback; espeak-ng allows one instance per process and one caller at a time."""

    def __init__(self) -> None:
        library, data = _locate()
        self._folder = tempfile.TemporaryDirectory(prefix="speechssl-")
        self._home = Path(self._folder.name) / "espeak-ng-data"
        self._variants = self._home / "voices" / "!v"
        _link_data(data, self._home)
        self._lock = threading.Lock()
        self._pieces: list[np.ndarray] = []
        self._library = _load(library)
        self.sample_rate = self._library.espeak_Initialize(
            SYNCHRONOUS, BUFFER_MILLISECONDS, os.fsencode(self._home), DONT_EXIT
        )
        if self.sample_rate <= 0:
            raise UserError(f"espeak-ng does not start with the data of {data}; reinstall it: {_HOW_TO_INSTALL}")
        self._callback = Callback(self._receive)  # kept: the library holds only the address
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: int | None) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def speak(
        self, text: str, language: str, voice: Voice, prosody: tuple[int, int, int], seed: int
    ) -> tuple[np.ndarray, int]:
        encoded = text.encode() + b"\0"
        with self._lock:
            name = f"{language}+{self._variant(voice)}"
            if self._library.espeak_SetVoiceByName(name.encode()) != 0:
                raise UserError(f"espeak-ng has no language {language!r}; expected one such as en-us, de or fr")
            for parameter, value in zip((RATE, PITCH, RANGE), prosody, strict=True):
                self._library.espeak_SetParameter(parameter, value, 0)
            for parameter, value in ((VOLUME, QUIET), (PUNCTUATION, 0), (CAPITALS, 0), (WORD_GAP, 0)):
                self._library.espeak_SetParameter(parameter, value, 0)
            self._library.espeak_ng_SetRandSeed(seed)
            self._pieces.clear()
            status = self._library.espeak_Synth(encoded, len(encoded), 0, 1, 0, UTF8, None, None)
            pieces = list(self._pieces)
        if status != 0 or not pieces:
            raise UserError(f"espeak-ng could not speak {text!r} in {language!r} (status {status})")
        return np.concatenate(pieces).astype(np.float32) / 32768, self.sample_rate

    def _variant(self, voice: Voice) -> str:
        """Return the name of the voice's file, which is written when the voice speaks first."""
        content = voice.as_file().encode()
        name = "v" + hashlib.sha256(content).hexdigest()[:16]  # a leading digit would number a built-in variant
        path = self._variants / name
        if not path.exists():
            path.write_bytes(content)
        return name


_HOW_TO_INSTALL = "pip install 'speechssl[demo]'"


def _locate() -> tuple[str, Path]:
    """Return the library file and its data folder."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise UserError(f"making speech needs espeak-ng; install it: {_HOW_TO_INSTALL}") from error
    try:
        return espeakng_loader.get_library_path(), Path(espeakng_loader.get_data_path())
    except RuntimeError as error:
        raise UserError(f"espeakng-loader is incomplete ({error}); reinstall it: {_HOW_TO_INSTALL}") from error


def _link_data(data: Path, home: Path) -> None:
    (home / "voices" / "!v").mkdir(parents=True)
    for entry in data.iterdir():
        if entry.name == "voices":
            continue  # other voices are not needed
        try:
            (home / entry.name).symlink_to(entry.resolve())
        except OSError:  # some systems allow links to administrators only
            copy = shutil.copytree if entry.is_dir() else shutil.copy2
            copy(entry, home / entry.name)


def _load(path: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise UserError(f"espeak-ng cannot be loaded ({error}); reinstall it: {_HOW_TO_INSTALL}") from error
    library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    library.espeak_SetSynthCallback.argtypes = [Callback]
    library.espeak_SetSynthCallback.restype = None
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.POINTER(ctypes.c_uint),
        ctypes.c_void_p,
    ]
    return library
