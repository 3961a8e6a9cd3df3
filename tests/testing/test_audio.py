"""Audio made from numbers."""

from decimal import Decimal

import pytest

from livekit_costmeter.testing.audio import Mp3Encoder, is_speech, silence, tone, wav_header, wav_seconds


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 24_000])
def test_every_20_ms_of_a_tone_is_speech(sample_rate):
    """A tone never sounds like a pause, at any rate and position; silence always does."""
    samples = sample_rate // 50
    assert all(is_speech(tone(samples, sample_rate, start=start)) for start in range(0, 2 * sample_rate, samples))
    assert not is_speech(silence(samples))
    assert not is_speech(b"")


def test_a_tone_continues_where_it_left_off():
    """Two pieces of a tone are the same as one."""
    assert tone(700, 16_000, start=15_800) + tone(300, 16_000, start=16_500) == tone(1000, 16_000, start=15_800)


def test_a_wav_file_says_how_long_it_is():
    """The header and the PCM make a file of the right length."""
    assert wav_seconds(wav_header(12_000, 16_000) + silence(12_000)) == Decimal("0.75")


def test_what_is_no_wav_file_is_refused():
    """A file of another kind is an error, not a length."""
    with pytest.raises(ValueError, match="not a WAV file"):
        wav_seconds(b"ID3")


@pytest.mark.parametrize(("sample_rate", "frame"), [(22_050, 104), (24_000, 96)])
def test_mp3_frames_follow_the_pcm(sample_rate, frame):
    """However the PCM is cut, the frames add up to its length in whole frames, at either rate."""
    encoder = Mp3Encoder(sample_rate)
    pieces = [encoder.encode(silence(samples)) for samples in (500, 500, 100, 1204)]
    assert [len(piece) for piece in pieces] == [0, frame, 0, 3 * frame]
