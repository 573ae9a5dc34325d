"""Videos: one frame in so many, described as pictures are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from momok.cli import main
from momok.training.data.dataset import Dataset
from momok.training.encoders.base import Options, Unreadable
from momok.training.encoders.image import describe, picture_describer
from momok.training.encoders.models.base import ModelDirectory
from momok.training.encoders.models.image import open_image_model
from momok.training.encoders.video import EVERY, described_frames
from tests.training.builders import CPU, write_dataset
from tests.training.encoders import tiny

COLOURS = ("red", "green", "blue", "white", "black")


def write_video(path: Path, colours: tuple[str, ...]) -> Path:
    """Each colour for two frames, as an MPEG-4 clip of 64 x 48 pixels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for colour in colours:
            for _ in range(2):
                frame = av.VideoFrame.from_image(Image.new("RGB", (64, 48), colour))
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_every_nth_frame_is_taken(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", COLOURS)
    for every, seen in ((4, ("red", "blue", "black")), (2, COLOURS), (EVERY, ("red",))):
        found = list(described_frames(clip, every, picture_describer(Options())))
        expected = [describe(Image.new("RGB", (64, 48), colour)) for colour in seen]
        assert len(found) == len(seen)
        np.testing.assert_allclose(found, expected, atol=0.2)  # The codec shifts colours a little.


def test_a_folder_of_videos_is_encoded_as_the_mean_of_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data = tmp_path / "videos", write_dataset(tmp_path)
    (folder / "e4").mkdir(parents=True)
    first = write_video(folder / "e1.mp4", COLOURS)
    second = write_video(folder / "e4" / "a.mp4", ("red", "white"))
    third = write_video(folder / "e4" / "b.mkv", ("blue",) * 4)
    (folder / "e2.mp4").write_bytes(b"broken")
    write_sound(folder / "e3.mp4")
    saved = tiny.vit(tmp_path / "model")
    flags = ("--modality", "video", "--encoder", "video", "--from", folder, "--device", "cpu", "--every", "2")
    assert main(["encode", str(data), *map(str, flags), "--model", str(saved)]) == 0
    said = capsys.readouterr().err
    assert f"left out {folder / 'e2.mp4'}: " in said
    assert f"left out {folder / 'e3.mp4'}: there is no picture in it" in said
    dataset = Dataset.open(data)
    made = dataset.modalities[-1]
    assert made.rows is not None
    assert made.features is not None
    assert made.rows.tolist() == [1, 4]
    model = open_image_model(ModelDirectory(saved), CPU)

    def seen(path: Path) -> Any:
        with av.open(str(path)) as container:
            frames = [frame.to_image() for frame in container.decode(video=0)][::2]
        return np.stack([model.describe(list(model.parts(frame)))[0] for frame in frames]).mean(axis=0)

    expected = np.stack([seen(first), (seen(second) + seen(third)) / 2])
    np.testing.assert_allclose(made.features, expected, rtol=2e-3, atol=2e-3)
    assert dataset.provenance["encoders"]["video"]["settings"]["every"] == 2


def test_frames_made_to_exhaust_memory_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("momok.training.encoders.image.MAX_PIXELS", 1000)
    clip = write_video(tmp_path / "clip.mp4", COLOURS)
    with pytest.raises(Unreadable, match="64 x 48 pixels; 1000 are allowed"):
        list(described_frames(clip, 1, picture_describer(Options())))


def test_a_video_that_breaks_off_is_left_out_whole(tmp_path: Path) -> None:
    folder, data = tmp_path / "videos", write_dataset(tmp_path)
    folder.mkdir()
    write_video(folder / "e1.mp4", COLOURS)
    cut = write_video(folder / "e2.avi", COLOURS * 20)
    cut.write_bytes(cut.read_bytes()[:200])
    flags = ["--modality", "video", "--encoder", "video", "--from", str(folder), "--every", "1"]
    assert main(["encode", str(data), *flags]) == 0
    made = Dataset.open(data).modalities[-1]
    assert made.rows is not None
    assert made.rows.tolist() == [1]
