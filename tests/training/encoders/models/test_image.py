"""Pictures by local vision models of three libraries, against the libraries called by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from momok.cli import main
from momok.training.data.dataset import Dataset
from momok.training.encoders.models.base import ModelDirectory, ModelError
from momok.training.encoders.models.image import open_image_model
from tests.training.builders import CPU, write_dataset
from tests.training.encoders import tiny


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two of e4, one of e1 which is half transparent, and a broken one of e9."""
    folder = tmp_path / "pictures"
    (folder / "e4").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, shape in (("e4/a.png", (40, 60, 3)), ("e4/b.png", (33, 33, 3)), ("e1.png", (64, 48, 4))):
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
    (folder / "e9.png").write_bytes(b"broken")
    return folder


def white(path: Path) -> Image.Image:
    picture = Image.open(path).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def by_hand(kind: str, folder: Path, picture: Image.Image) -> np.ndarray:
    """What a model's library makes of one picture, by the calls that its manual shows."""
    found: Any
    with torch.inference_mode():
        if kind == "timm":
            import timm

            model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
            mean, deviation = (np.array(model.pretrained_cfg[name]) for name in ("mean", "std"))
            assert picture.size == (tiny.SIDE, tiny.SIDE)
            pixels = torch.from_numpy((np.asarray(picture) / 255 - mean) / deviation).float()
            found = model.forward_head(model.forward_features(pixels.permute(2, 0, 1)[None]), pre_logits=True)
        elif kind == "open_clip":
            import open_clip

            model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
            found = model.eval().encode_image(transform(picture)[None])
        else:
            from transformers import AutoImageProcessor, CLIPModel, ResNetModel, ViTModel

            processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
            inputs = processor(images=picture, return_tensors="pt")
            if kind == "clip":
                clip = CLIPModel.from_pretrained(folder)
                found = clip.visual_projection(clip.vision_model(**inputs).pooler_output)
            else:
                library = {"vit": ViTModel, "resnet": ResNetModel}[kind]
                found = library.from_pretrained(folder)(**inputs).pooler_output.flatten(1)
    return np.asarray(found[0].double())


@pytest.mark.parametrize("kind", tiny.VISION)
def test_a_model_of_each_library_gives_what_the_library_gives(
    kind: str, tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data = tiny.VISION[kind](tmp_path / "model"), write_dataset(tmp_path)
    if kind == "timm":  # By hand it is only prepared where nothing need be resized.
        for path in pictures.rglob("[a-e][14]*.png"):
            Image.open(path).resize((tiny.SIDE, tiny.SIDE)).save(path)
        for path in (pictures / "e4").iterdir():
            Image.open(path).resize((tiny.SIDE, tiny.SIDE)).save(path)
        config = json.loads((folder / "config.json").read_text())
        config["pretrained_cfg"]["crop_pct"] = 1.0
        (folder / "config.json").write_text(json.dumps(config))
    flags = (
        "--modality",
        "image",
        "--encoder",
        "image",
        "--from",
        pictures,
        "--model",
        folder,
        "--device",
        "cpu",
    )
    assert main(["encode", str(data), *map(str, flags)]) == 0
    assert f"left out {pictures / 'e9.png'}: not a picture" in capsys.readouterr().err
    dataset = Dataset.open(data)
    made = dataset.modalities[-1]
    assert made.rows is not None
    assert made.features is not None
    assert made.rows.tolist() == [1, 4]
    assert made.features.dtype == np.float16
    first = by_hand(kind, folder, white(pictures / "e1.png"))
    several = [by_hand(kind, folder, white(pictures / "e4" / name)) for name in ("a.png", "b.png")]
    expected = np.stack([first, np.mean(several, axis=0)])
    np.testing.assert_allclose(made.features, expected, rtol=2e-3, atol=2e-3)
    about = dataset.provenance["encoders"]["image"]
    assert about["model"] == {"directory": str(folder), "sha256": ModelDirectory(folder).sha256}
    assert about["settings"]["format"] in about["versions"] or kind == "open_clip"


@pytest.mark.parametrize("kind", tiny.VISION)
def test_company_does_not_matter_to_a_picture(kind: str, tmp_path: Path) -> None:
    model = open_image_model(ModelDirectory(tiny.VISION[kind](tmp_path / "model")), CPU)
    pictures = [Image.effect_noise((50, 40), 90).convert("RGB") for _ in range(3)]
    parts = [part for picture in pictures for part in model.parts(picture)]
    together = model.describe(parts)
    np.testing.assert_allclose(
        together, np.concatenate([model.describe([part]) for part in parts]), atol=1e-5
    )
    assert np.abs(together - together.mean(axis=0)).max() > 1e-4, "pictures are told apart"


def test_without_weights_of_its_pooling_a_model_gives_the_mean_of_all_positions(tmp_path: Path) -> None:
    """Else the features were those of a pooling made up at random, other ones each time."""
    folder = tiny.vit(tmp_path / "model", pooler=False)
    picture = Image.effect_noise((50, 40), 90).convert("RGB")
    first, second = (open_image_model(ModelDirectory(folder), CPU) for _ in range(2))
    found = first.describe(list(first.parts(picture)))
    np.testing.assert_array_equal(found, second.describe(list(second.parts(picture))))
    from transformers import AutoImageProcessor, ViTModel

    inputs = AutoImageProcessor.from_pretrained(folder, backend="pil")(images=picture, return_tensors="pt")
    with torch.inference_mode():
        states = ViTModel.from_pretrained(folder, add_pooling_layer=False)(**inputs).last_hidden_state
    np.testing.assert_allclose(found[0], states[0].mean(dim=0), atol=1e-6)


def test_incomplete_and_unknown_models_are_refused(tmp_path: Path) -> None:
    folder = tiny.vit(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "attention" not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"its weights lack .*attention.* more; save the whole model"):
        open_image_model(ModelDirectory(folder), CPU)
    (folder / "preprocessor_config.json").unlink()
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelError, match="not loadable as a transformers model with an image processor"):
        open_image_model(ModelDirectory(folder), CPU)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="not a model of transformers, timm or open_clip"):
        open_image_model(ModelDirectory(folder), CPU)


@pytest.mark.parametrize("kind", ["timm", "open_clip"])
def test_weights_that_do_not_fit_the_config_are_refused(kind: str, tmp_path: Path) -> None:
    folder = tiny.VISION[kind](tmp_path / "model")
    (file,) = folder.glob("*.safetensors")
    weights = load_file(file)
    weights.pop(next(name for name in weights if "attn" in name))
    save_file(weights, file)
    with pytest.raises(ModelError, match=f"not loadable as an? {kind} model"):
        open_image_model(ModelDirectory(folder), CPU)
