"""Sounds by the statistics of their log-mel spectrogram: each band's loudness, its deviation and its change.

A light descriptor without a model: tells pitch, timbre and rhythm apart, and knows no words. libsndfile (by
``soundfile``) reads the files, SciPy resamples and transforms.

Axes: T samples, C channels, N frames, W samples of a frame, F frequencies, B mel bands.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from momok.model.arrays import Float32, Float64
from momok.model.runtime.device import choose_device
from momok.training.data.dataset import Dataset
from momok.training.encoders.base import About, Describer, Options, Unreadable
from momok.training.encoders.jobs import Encoder, ItemJob
from momok.training.encoders.models.base import ModelDirectory
from momok.training.encoders.models.libraries import importing, need
from momok.training.encoders.models.transformers import transformers_audio
from momok.training.encoders.sources import find_files

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
RATE = 16_000
"""Samples a second of the built-in encoder."""
RATES = (1_000, 768_000)
"""Of files. Others are damaged, and resampling them may be made to exhaust memory."""
BANDS = 64
WINDOW, HOP, TRANSFORM = 400, 160, 1024
"""Samples of a frame (25 ms), between frames (10 ms), and of its Fourier transform."""
FLOOR = 1e-10
"""Power below which a band counts as silent: 100 dB below full scale."""
MAX_SECONDS = 600
"""Of a longer file the beginning is used."""
_FRAMES_AT_ONCE = 4096
MODEL_SECONDS = 10
"""The longest input of a model; a longer clip is the mean of equal parts."""


def read_clip(path: Path, rate: int) -> Float64:
    """The mean of a sound file's channels, resampled, float64[T] in [-1, 1]. Raises ``Unreadable``."""
    import soundfile
    from scipy.signal import resample_poly

    try:
        with soundfile.SoundFile(path) as file:
            own_rate = int(file.samplerate)
            if not RATES[0] <= own_rate <= RATES[1]:
                raise Unreadable(f"{own_rate} samples a second; {RATES[0]} to {RATES[1]} are sound")
            sound_TC = file.read(frames=MAX_SECONDS * own_rate, dtype="float64", always_2d=True)
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise Unreadable(str(error)) from None
    if not len(sound_TC):
        raise Unreadable("there is no sound in it")
    if not np.isfinite(sound_TC).all():
        raise Unreadable("holds samples that are not finite numbers")
    shared = math.gcd(rate, own_rate)
    clip_T: Float64 = resample_poly(sound_TC.mean(axis=1), rate // shared, own_rate // shared)
    return clip_T


def log_mel_statistics(clip_T: Float64) -> Float64:
    """Of each band its mean log10 power, deviation and mean change between frames: float64[3 · BANDS].

    ``clip_T``: samples at ``RATE``. Silence is ``log10(FLOOR)`` throughout, and does not vary.
    """
    clip_T = np.pad(clip_T, (0, max(WINDOW - len(clip_T), 0)))
    frame_NW = np.lib.stride_tricks.sliding_window_view(clip_T, WINDOW)[::HOP]
    blocks = range(0, len(frame_NW), _FRAMES_AT_ONCE)
    level_NB = np.concatenate([_levels(frame_NW[start : start + _FRAMES_AT_ONCE]) for start in blocks])
    change_B = np.abs(np.diff(level_NB, axis=0)).mean(axis=0) if len(level_NB) > 1 else np.zeros(BANDS)
    return np.concatenate([level_NB.mean(axis=0), level_NB.std(axis=0), change_B])


def _levels(frame_NW: Float64) -> Float64:
    from scipy.signal import get_window

    window_W = get_window("hann", WINDOW)
    power_NF = np.abs(np.fft.rfft(frame_NW * window_W, TRANSFORM)) ** 2 / window_W.sum() ** 2
    levels: Float64 = np.log10(np.maximum(power_NF @ mel_bands(), FLOOR))
    return levels


@cache
def mel_bands() -> Float64:
    """Triangles over the bins of a spectrum, equally wide on the mel scale, float64[F, BANDS]."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    corner_hz = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    bin_hz = np.fft.rfftfreq(TRANSFORM, 1 / RATE)[:, None]
    rising_FB = (bin_hz - corner_hz[:-2]) / np.diff(corner_hz)[:-1]
    falling_FB = (corner_hz[2:] - bin_hz) / np.diff(corner_hz)[1:]
    triangle_FB: Float64 = np.maximum(np.minimum(rising_FB, falling_FB), 0)
    return triangle_FB


def _equal_parts(clip_T: Float64, rate: int) -> Float32:
    """A clip cut into parts of at most ``MODEL_SECONDS``, a row each, filled up with silence."""
    num_parts = math.ceil(len(clip_T) / (MODEL_SECONDS * rate))
    # At least a second: networks that shorten their input need that much.
    length = max(math.ceil(len(clip_T) / num_parts), rate)
    filled = np.pad(clip_T, (0, num_parts * length - len(clip_T)))
    return filled.reshape(num_parts, length).astype(np.float32)


def _start(dataset: Dataset, source: str, options: Options) -> ItemJob:
    need("scipy", "the audio encoder", "audio")
    with importing("soundfile", "the audio encoder", "audio"):
        import soundfile  # noqa: F401
    files = find_files(source, dataset.entities, SUFFIXES)
    if options.model is None:
        settings = {"rate": RATE, "bands": BANDS, "max_seconds": MAX_SECONDS}
        about = About(settings, ("soundfile", "scipy", "numpy"))
        describer = Describer(about, lambda path: [log_mel_statistics(read_clip(path, RATE))], centred=True)
    else:
        model = transformers_audio(ModelDirectory(options.model), choose_device(options.device))
        rate = model.about.settings["rate"]
        describer = replace(model, parts=lambda path: _equal_parts(read_clip(path, rate), rate))
    return ItemJob(describer, files, f"no sound can be read; {', '.join(SUFFIXES)} files are needed")


AUDIO = Encoder(_start, frozenset({"model"}))
