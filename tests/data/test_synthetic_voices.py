"""Speakers and styles: what an utterance depends on, and that a style is heard."""

import importlib.util

import numpy as np
import pytest

from speechssl.data.room import trim
from speechssl.data.synthetic_tasks import STYLES
from speechssl.data.synthetic_voices import PLAIN, draw_speaker, sentence, utter

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeakng-loader is not installed (pip install 'speechssl[demo]')",
)


def test_a_speaker_depends_on_its_number_and_the_seed() -> None:
    assert draw_speaker(3, 30, 0) == draw_speaker(3, 30, 0)
    assert draw_speaker(3, 30, 0).voice != draw_speaker(3, 30, 1).voice
    assert [draw_speaker(number, 30, 0).voice.gender for number in range(4)] == ["female", "male"] * 2


def test_sentences_end_and_are_labelled_in_upper_case() -> None:
    item = sentence("name", draw_speaker(0, 30, 0), "it's cold", "train", 0)
    assert item.text == "IT'S COLD"
    assert item.audio.args[0] == "it's cold."


@needs_espeak
def test_a_style_is_heard_in_pace_and_in_brightness() -> None:
    seconds, brightness = dict.fromkeys(STYLES, 0.0), dict.fromkeys(STYLES, 0.0)
    for number in range(12):
        speaker = draw_speaker(number, 30, 0)
        for name, style in STYLES.items():
            samples, rate = utter(
                "the door was open again.", speaker.accent, speaker.voice, speaker.rate, str(number), style
            )
            samples = trim(samples, rate)
            power = np.abs(np.fft.rfft(samples, 2**17)) ** 2
            low, high = (
                power[int(a * 2**17 / rate) : int(b * 2**17 / rate)].sum() for a, b in ((100, 1000), (2000, 4500))
            )
            seconds[name] += len(samples) / rate
            brightness[name] += np.log(high / low)
    assert seconds["sad"] > 1.05 * seconds["neutral"]
    assert seconds["neutral"] > 1.05 * seconds["angry"]
    assert brightness["angry"] > brightness["neutral"] + 12 * 0.2
    assert brightness["neutral"] > brightness["sad"] + 12 * 0.2


@needs_espeak
def test_a_style_depends_on_the_key_alone() -> None:
    speaker = draw_speaker(1, 30, 0)
    first, same, plain = (
        utter("stop.", speaker.accent, speaker.voice, speaker.rate, "key", style)[0]
        for style in (STYLES["angry"], STYLES["angry"], PLAIN)
    )
    np.testing.assert_array_equal(first, same)
    assert len(first) != len(plain) or (first != plain).any()
