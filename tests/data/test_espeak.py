"""espeak-ng behind a pure function: the same request gives the same samples whatever was spoken before."""

import dataclasses
import importlib.util
import random
import subprocess
import sys

import numpy as np
import pytest

from speechssl.data.espeak import Voice, speak
from speechssl.errors import UserError

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeakng-loader is not installed (pip install 'speechssl[demo]')",
)
MAN = Voice("male", (100, 140), ((100, 100, 100),) * 9)
WOMAN = Voice("female", (200, 280), ((100, 100, 100),) + ((115, 100, 100),) * 8)
BREATHY = dataclasses.replace(WOMAN, breath=15, tone=(600, 170, 1200, 120, 2000, 90))


def say(text: str, language: str = "en-us", voice: Voice = MAN, seed: int = 1, **changed: int) -> np.ndarray:
    samples, rate = speak(text, language, voice, **{"rate": 170, "pitch": 50, "pitch_range": 50} | changed, seed=seed)
    assert rate == 22050
    return samples


@needs_espeak
def test_speech_does_not_depend_on_what_was_said_before() -> None:
    # Trills and glottal stops are where espeak-ng's roughness counter shows, breath where its generator does.
    requests = [
        ("it's cold by the river", "en-us", MAN),
        ("stop", "en-gb-scotland", BREATHY),
        ("el perro corre", "es", WOMAN),
        ("der rote roller", "de", BREATHY),
        ("la terre est ronde", "fr", MAN),
    ]
    requests += [("no", "en", dataclasses.replace(MAN, pitch=(pitch, 150))) for pitch in range(80, 100)]
    first = [say(*request) for request in requests]
    shuffle = random.Random(0)
    for _ in range(4):
        order = shuffle.choices(range(len(requests)), k=20)
        for number in order:
            say(*requests[number], seed=7, rate=shuffle.randint(120, 220))
            np.testing.assert_array_equal(say(*requests[number]), first[number])


@needs_espeak
def test_speech_is_the_same_in_another_process() -> None:
    code = (
        "import hashlib; from tests_voice import *; "
        "print(hashlib.sha256(say('open the door', 'en', BREATHY).tobytes()).hexdigest())"
    )
    prelude = f"import sys, importlib.util as u; s = u.spec_from_file_location('tests_voice', {__file__!r}); "
    prelude += "m = u.module_from_spec(s); sys.modules['tests_voice'] = m; s.loader.exec_module(m); "
    digests = {
        subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


@needs_espeak
@pytest.mark.parametrize("changed", [{"rate": 120}, {"pitch": 70}, {"voice": WOMAN}, {"language": "en-gb-scotland"}])
def test_every_setting_is_heard(changed: dict) -> None:
    usual, other = say("the river is near"), say("the river is near", **changed)
    assert len(usual) != len(other) or np.abs(usual - other).max() > 0.01


@needs_espeak
def test_breath_is_seeded() -> None:
    same, other = say("hello", voice=BREATHY), say("hello", voice=BREATHY, seed=2)
    assert len(same) == len(other)
    assert (same != other).any()


@needs_espeak
def test_the_pitch_of_a_voice_is_what_it_says() -> None:
    def fundamental(samples: np.ndarray) -> float:
        middle = samples[len(samples) // 2 - 1024 :][:2048]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(2048), 16384)) ** 2
        correlation = np.fft.irfft(spectrum)[22050 // 350 : 22050 // 70]
        return 22050 / (22050 // 350 + int(correlation.argmax()))

    assert 90 < fundamental(say("aaah.")) < 150
    assert 180 < fundamental(say("aaah.", voice=WOMAN)) < 290


@needs_espeak
def test_nothing_clips_even_with_strong_formants() -> None:
    loud = dataclasses.replace(MAN, formants=((100, 115, 85),) * 9, tone=(600, 170, 1200, 150, 2000, 140))
    assert np.abs(say("are we far away from home?", voice=loud)).max() < 0.9


@needs_espeak
def test_unknown_language_is_refused() -> None:
    with pytest.raises(UserError, match="no language 'tlh-x'"):
        say("nuqneH", "tlh-x")


def test_without_espeak_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['espeakng_loader'] = None\n"
        "from speechssl.data.espeak import Voice, speak\n"
        "from speechssl.errors import UserError\n"
        "try:\n"
        "    speak('a', 'en', Voice('male', (80, 120), ()), rate=170, pitch=50, pitch_range=50, seed=0)\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'speechssl[demo]'" in result.stdout
