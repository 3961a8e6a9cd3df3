"""
Audio made from numbers: tones, silence, the containers that clients decode, and an ear that tells speech from silence.

Invariant: the same arguments give the same bytes; no file is read. PCM is signed, 16 bit, little endian, mono.
"""

from __future__ import annotations

import io
import math
import struct
import sys
import wave
from array import array
from decimal import Decimal
from functools import lru_cache

PCM_WIDTH = 2
_TONES_HZ = (180.0, 360.0, 720.0)
_SYLLABLES_PER_SECOND = 4.0
_LOUDNESS = 6000
_SPEECH_PEAK = 500
MP3_RATE = 24_000
_MP3_FRAME_SAMPLES = 576
_MP3_BITS_PER_SECOND = 32_000
_MP3_RATE_BITS = {22_050: 0b0000, 24_000: 0b0100}


def _pcm(samples: array[int]) -> bytes:
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


@lru_cache(maxsize=8)
def _one_second_of_tone(sample_rate: int) -> bytes:
    samples = array("h")
    for position in range(sample_rate):
        second = position / sample_rate
        # A syllable-like swell that never falls silent: an ear must not hear a pause inside a word.
        swell = 0.65 + 0.35 * math.sin(2 * math.pi * _SYLLABLES_PER_SECOND * second)
        wave_sum = sum(math.sin(2 * math.pi * hertz * second) for hertz in _TONES_HZ)
        samples.append(int(_LOUDNESS * swell * wave_sum / len(_TONES_HZ)))
    return _pcm(samples)


def tone(samples: int, sample_rate: int, *, start: int = 0) -> bytes:
    """Return speech-like PCM of that many samples; `start` continues a tone already begun, in samples."""
    second = _one_second_of_tone(sample_rate)
    offset = (start % sample_rate) * PCM_WIDTH
    needed = samples * PCM_WIDTH
    turns = (offset + needed) // len(second) + 1
    return (second * turns)[offset : offset + needed]


def silence(samples: int) -> bytes:
    """Return silent PCM of that many samples."""
    return bytes(samples * PCM_WIDTH)


def wav_header(samples: int, sample_rate: int) -> bytes:
    """Return the header of a WAV file of that many samples; the PCM follows it."""
    size = samples * PCM_WIDTH
    form = struct.pack("<IHHIIHH", 16, 1, 1, sample_rate, sample_rate * PCM_WIDTH, PCM_WIDTH, PCM_WIDTH * 8)
    return b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + form + b"data" + struct.pack("<I", size)


def wav_seconds(file: bytes) -> Decimal:
    """Return the length of a WAV file in seconds.

    Raises:
        ValueError: It is not a WAV file.
    """
    try:
        with wave.open(io.BytesIO(file)) as content:
            frames, rate = content.getnframes(), content.getframerate()
            return Decimal(frames) / Decimal(rate)
    except (wave.Error, EOFError) as error:
        raise ValueError(f"not a WAV file: {error}") from None


def _silent_mp3_frame(sample_rate: int) -> bytes:
    # MPEG-2 layer III, no CRC, 32 kbit/s, mono; an all-zero side info and body decode to silence.
    header = bytes((0xFF, 0xF3, 0x40 | _MP3_RATE_BITS[sample_rate], 0xC0))
    length = _MP3_FRAME_SAMPLES // 8 * _MP3_BITS_PER_SECOND // sample_rate
    return header + bytes(length - len(header))


class Mp3Encoder:
    """Turns PCM at 22,050 or 24,000 Hz into an MP3 of its length in whole frames; what it decodes to is silence."""

    def __init__(self, sample_rate: int = MP3_RATE) -> None:
        self._frame = _silent_mp3_frame(sample_rate)
        self._samples = 0
        self._frames = 0

    def encode(self, pcm: bytes) -> bytes:
        """Return the frames that the PCM so far fills."""
        self._samples += len(pcm) // PCM_WIDTH
        due = self._samples // _MP3_FRAME_SAMPLES - self._frames
        self._frames += due
        return self._frame * due


def is_speech(pcm: bytes) -> bool:
    """Tell whether a piece of PCM is louder than silence and line noise."""
    samples = array("h")
    samples.frombytes(pcm[: len(pcm) // PCM_WIDTH * PCM_WIDTH])
    if sys.byteorder == "big":
        samples.byteswap()
    return bool(samples) and (max(samples) > _SPEECH_PEAK or min(samples) < -_SPEECH_PEAK)
