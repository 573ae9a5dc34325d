"""Synthetic sounds: told apart by pitch, timbre and rhythm in any format and rate; silence is finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from momok.cli import main
from momok.training.data.dataset import Dataset
from momok.training.encoders.audio import (
    BANDS,
    FLOOR,
    MODEL_SECONDS,
    RATE,
    TRANSFORM,
    log_mel_statistics,
    mel_bands,
    read_clip,
)
from momok.training.encoders.base import Unreadable
from momok.training.encoders.models.base import ModelDirectory
from momok.training.encoders.models.libraries import importing
from momok.training.encoders.models.transformers import transformers_audio
from tests.training.builders import CPU, write_dataset
from tests.training.encoders import tiny


def sine(hz: float, *, seconds: float = 0.5, rate: int = RATE, loud: float = 0.5) -> np.ndarray:
    return loud * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)


def chirp(low_hz: float, high_hz: float, *, seconds: float = 0.5) -> np.ndarray:
    hz = np.linspace(low_hz, high_hz, int(seconds * RATE))
    return 0.5 * np.sin(2 * np.pi * np.cumsum(hz) / RATE)


def noise(seed: int, *, seconds: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=int(seconds * RATE)) / 8


def parts_of(statistics: np.ndarray) -> list[np.ndarray]:
    return np.split(statistics, 3)


def encode(data: Path, folder: Path, *more: object) -> int:
    flags = ["--modality", "sound", "--encoder", "audio", "--from", folder, "--device", "cpu", *more]
    return main(["encode", str(data), *map(str, flags)])


def test_the_bands_are_those_of_another_library() -> None:
    with importing("transformers", "a test", "audio"):
        from transformers.audio_utils import mel_filter_bank
    theirs = mel_filter_bank(TRANSFORM // 2 + 1, BANDS, 0, RATE / 2, RATE, norm=None, mel_scale="htk")
    np.testing.assert_allclose(mel_bands(), theirs, atol=1e-9)
    assert mel_bands().sum(axis=0).min() > 0.3, "no band is empty"


def test_a_tone_is_loud_in_its_band_and_does_not_vary() -> None:
    for hz in (220.0, 880.0, 3520.0):
        level_B, deviation_B, change_B = parts_of(log_mel_statistics(sine(hz)))
        band = level_B.argmax()
        centre_hz = np.average(np.fft.rfftfreq(TRANSFORM, 1 / RATE), weights=mel_bands()[:, band])
        assert abs(centre_hz - hz) < 0.1 * hz + 40
        assert deviation_B[band] < 0.05
        assert change_B[band] < 0.05


def test_ten_times_the_amplitude_is_two_more_everywhere_above_the_floor() -> None:
    quiet, loud = (parts_of(log_mel_statistics(scale * noise(0)))[0] for scale in (0.1, 1.0))
    np.testing.assert_allclose(loud - quiet, 2, atol=1e-9)


def test_silence_and_the_shortest_clips_are_finite() -> None:
    for clip in (np.zeros(RATE), np.zeros(1), np.full(3, 0.5)):
        assert np.isfinite(log_mel_statistics(clip)).all()
    level_B, deviation_B, change_B = parts_of(log_mel_statistics(np.zeros(RATE)))
    np.testing.assert_allclose(level_B, np.log10(FLOOR))
    assert not deviation_B.any()
    assert not change_B.any()


def test_what_sounds_alike_is_near() -> None:
    heard = {
        "low": log_mel_statistics(sine(200)),
        "low again": log_mel_statistics(sine(210, loud=0.4)),
        "high": log_mel_statistics(sine(4000)),
        "rising": log_mel_statistics(chirp(200, 4000)),
        "noise": log_mel_statistics(noise(0)),
        "noise again": log_mel_statistics(noise(1)),
    }

    def distance(one: str, other: str) -> float:
        return float(np.linalg.norm(heard[one] - heard[other]))

    for pair, others in {
        ("low", "low again"): ("high", "rising", "noise"),
        ("noise", "noise again"): heard,
    }.items():
        for other in set(others) - set(pair):
            assert distance(*pair) < 0.5 * distance(pair[0], other), (pair, other)


def test_format_rate_and_channels_hardly_matter(tmp_path: Path) -> None:
    expected = log_mel_statistics(sine(440, seconds=1))
    for name, rate, subtype in (
        ("a.wav", RATE, "FLOAT"),
        ("b.wav", RATE, "PCM_16"),
        ("c.flac", RATE, "PCM_16"),
        ("d.ogg", RATE, "VORBIS"),
        ("e.wav", 44_100, "FLOAT"),
        ("f.wav", 8_000, "FLOAT"),
    ):
        tone = sine(440, seconds=1, rate=rate)
        soundfile.write(tmp_path / name, np.stack([tone, tone], axis=1), rate, subtype=subtype)
        found = log_mel_statistics(read_clip(tmp_path / name, RATE))
        loud = parts_of(expected)[0] > -6
        np.testing.assert_allclose(found[:BANDS][loud], expected[:BANDS][loud], atol=0.3, err_msg=name)


def test_a_folder_of_sounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, data = tmp_path / "sounds", write_dataset(tmp_path)
    (folder / "e4").mkdir(parents=True)
    clips = {
        "e1.wav": sine(300),
        "e4/a.flac": noise(0),
        "e4/b.ogg": chirp(100, 900),
        "e7.wav": np.zeros(RATE),
    }
    for name, clip in clips.items():
        soundfile.write(folder / name, clip, RATE)
    (folder / "e2.wav").write_bytes(b"broken")
    soundfile.write(folder / "e3.wav", np.zeros(0), RATE)
    soundfile.write(folder / "e5.wav", np.array([0.1, np.nan]), RATE, subtype="FLOAT")
    assert encode(data, folder) == 0
    said = capsys.readouterr().err
    for name, reason in (
        ("e2.wav", "Error opening"),
        ("e3.wav", "there is no sound in it"),
        ("e5.wav", "samples that are not finite"),
    ):
        assert f"left out {folder / name}: " in said
        assert reason in said
    dataset = Dataset.open(data)
    made = dataset.modalities[-1]
    assert made.rows is not None
    assert made.features is not None
    assert made.rows.tolist() == [1, 4, 7]
    assert made.features.dtype == np.float16
    each = {name: log_mel_statistics(read_clip(folder / name, RATE)) for name in clips}
    expected = np.stack([each["e1.wav"], (each["e4/a.flac"] + each["e4/b.ogg"]) / 2, each["e7.wav"]])
    np.testing.assert_allclose(made.features, expected - expected.mean(axis=0), atol=5e-3)
    about = dataset.provenance["encoders"]["sound"]
    assert about["settings"] == {"rate": RATE, "bands": BANDS, "max_seconds": 600}


@pytest.mark.parametrize("kind", tiny.HEARING)
def test_a_local_model_hears_clips_whole_or_in_equal_parts(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data = tmp_path / "sounds", write_dataset(tmp_path)
    folder.mkdir()
    long = np.concatenate([noise(0, seconds=7.5), sine(500, seconds=7.5)])
    clips = {1: sine(300, seconds=2), 2: sine(300, seconds=0.1), 3: np.zeros(RATE), 4: long}
    for entity, clip in clips.items():
        soundfile.write(folder / f"e{entity}.wav", clip, RATE, subtype="FLOAT")
    saved = tiny.HEARING[kind](tmp_path / "model")
    assert encode(data, folder, "--model", saved) == 0
    made = Dataset.open(data).modalities[-1]
    assert made.rows is not None
    assert made.rows.tolist() == [1, 2, 3, 4]
    assert made.features is not None

    from transformers import AutoFeatureExtractor, AutoModel

    extractor, model = AutoFeatureExtractor.from_pretrained(saved), AutoModel.from_pretrained(saved)

    def heard(clip: np.ndarray) -> np.ndarray:
        inputs = extractor(clip.astype(np.float32), sampling_rate=RATE, return_tensors="pt")
        with torch.inference_mode():
            listening = model.get_encoder() if kind == "whisper" else model
            states = listening(**inputs).last_hidden_state
        return np.asarray(states[0].mean(dim=0).double())

    short = np.pad(clips[2], (0, RATE - len(clips[2])))
    assert len(long) > MODEL_SECONDS * RATE
    halves = [heard(half) for half in np.split(long, 2)]
    expected = np.stack([heard(clips[1]), heard(short), heard(clips[3]), np.mean(halves, axis=0)])
    np.testing.assert_allclose(made.features, expected, rtol=2e-3, atol=2e-3)


def test_company_does_not_matter_to_a_clip(tmp_path: Path) -> None:
    describer = transformers_audio(ModelDirectory(tiny.wav2vec2(tmp_path / "model")), CPU)
    parts = [sine(hz, seconds=seconds).astype(np.float32) for hz, seconds in ((300, 1), (500, 2), (700, 1))]
    together = describer.describe(parts)
    alone = np.concatenate([describer.describe([part]) for part in parts])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_only_the_beginning_of_a_long_file_is_heard_and_no_absurd_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("momok.training.encoders.audio.MAX_SECONDS", 1)
    soundfile.write(tmp_path / "long.wav", sine(300, seconds=3), RATE)
    assert len(read_clip(tmp_path / "long.wav", RATE)) == RATE
    soundfile.write(tmp_path / "odd.wav", sine(300), 900_001)
    with pytest.raises(Unreadable, match="900001 samples a second"):
        read_clip(tmp_path / "odd.wav", RATE)
    with pytest.raises(Unreadable, match="Error opening"):
        read_clip(tmp_path / "gone.wav", RATE)


def test_no_sound_at_all_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, data = tmp_path / "sounds", write_dataset(tmp_path)
    folder.mkdir()
    (folder / "e2.wav").write_bytes(b"broken")
    assert encode(data, folder) == 2
    assert "no sound can be read; .wav, .flac" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.partial"))
