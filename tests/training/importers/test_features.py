"""Feature files: every format, the entities of their rows, and refusals."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from momok.model.networks.modality import Modality
from momok.training.data.dataset import DatasetError
from momok.training.importers import import_dataset
from tests.training.builders import unreadable

MATRIX = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
Write = Callable[[Path], Any]


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Entities a, b, c with ids 0, 1, 2."""
    folder = tmp_path / "graph"
    folder.mkdir()
    (folder / "train.tsv").write_text("a\tr\tb\nb\tr\tc\n")
    return folder


def read(graph: Path, file: Path, rows: Path | None = None) -> Modality:
    dataset = import_dataset(
        graph, "tsv", features={"image": file}, rows={} if rows is None else {"image": rows}
    )
    assert [modality.name for modality in dataset.modalities] == ["structure", "image"]
    assert dataset.provenance["features"] == {"image": str(file)}
    return dataset.modalities[1]


def values(modality: Modality) -> dict[int, list[float]]:
    assert modality.features is not None and modality.rows is not None
    return dict(zip(modality.rows.tolist(), modality.features.tolist(), strict=True))


def tensor(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(MATRIX, dtype=dtype)


IN_ID_ORDER: list[tuple[str, Write]] = [
    ("x.safetensors", lambda path: save_file({"features": tensor()}, path)),
    ("x.safetensors", lambda path: save_file({"img": tensor(), "other": torch.ones(2)}, path)),
    ("x.npy", lambda path: np.save(path, np.array(MATRIX))),
    ("x.pth", lambda path: torch.save(tensor(), path)),
    ("x.pt", lambda path: torch.save({"features": tensor()}, path)),
    ("x.pth", lambda path: torch.save(torch.nn.Parameter(tensor()), path)),
    ("x.pth", lambda path: torch.save(tensor(), path, _use_new_zipfile_serialization=False)),
]


@pytest.mark.parametrize(("name", "write"), IN_ID_ORDER)
def test_a_bare_matrix_has_one_row_an_entity(graph: Path, tmp_path: Path, name: str, write: Write) -> None:
    write(tmp_path / name)
    assert values(read(graph, tmp_path / name)) == {0: [1, 2], 1: [3, 4], 2: [5, 6]}


def test_owners_of_rows_are_read_from_the_file(graph: Path, tmp_path: Path) -> None:
    part, rows = tensor()[:2], torch.tensor([2, 0])
    save_file({"features": part, "rows": rows}, tmp_path / "x.safetensors")
    torch.save({"features": part, "rows": rows.int()}, tmp_path / "x.pt")
    torch.save({"c": part[0], "a": part[1]}, tmp_path / "y.pt")
    for name in ("x.safetensors", "x.pt", "y.pt"):
        assert values(read(graph, tmp_path / name)) == {2: [1, 2], 0: [3, 4]}


def test_owners_of_rows_are_read_from_beside_the_file(graph: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array(MATRIX[:2]))
    (tmp_path / "rows.txt").write_text("c\na\n")
    np.save(tmp_path / "rows.npy", np.array([2, 0]))
    for rows in ("rows.txt", "rows.npy"):
        assert values(read(graph, tmp_path / "x.npy", tmp_path / rows)) == {2: [1, 2], 0: [3, 4]}


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (torch.float16, np.float16),
        (torch.bfloat16, np.float32),
        (torch.float32, np.float32),
        (torch.float64, np.float32),
        (torch.int64, np.float32),
        (torch.uint8, np.float32),
    ],
)
def test_numbers_become_float32_unless_float16(
    graph: Path, tmp_path: Path, given: torch.dtype, stored: Any
) -> None:
    torch.save(tensor(given), tmp_path / "x.pt")
    found = read(graph, tmp_path / "x.pt")
    assert found.features is not None
    assert found.features.dtype == stored
    assert values(found)[2] == [5, 6]


def raw(content: bytes) -> Write:
    return lambda path: path.write_bytes(content)


def npy(array: Any) -> Write:
    return lambda path: np.save(path, array)


def pt(stored: Any) -> Write:
    return lambda path: torch.save(stored, path)


OBJECTS = np.array([None], dtype=object)
TWO, THREE = torch.ones(2), torch.ones(3)
ERRORS: list[tuple[str, Write, str]] = [
    ("x.csv", raw(b""), r"features must be one of .safetensors, .npy, .pt, .pth, not '.csv'"),
    ("x", raw(b""), r"features must be one of .*, not 'a file without suffix'"),
    ("x.npy", lambda path: None, r"x.npy: no such file; --features NAME=FILE needs one"),
    ("x.safetensors", raw(b"junk"), r"not a readable safetensors file .*; export it again"),
    ("x.npy", raw(b"junk"), r"not a plain NumPy array .*; save it with numpy.save"),
    ("x.npy", raw(b"PK\3\4"), r"not a plain NumPy array"),
    ("x.npy", npy(OBJECTS), r"not a plain NumPy array .*Object arrays"),
    ("x.npy", npy(np.ones(3)), r"features have shape \[3\]; one row of numbers an entity is needed"),
    ("x.npy", npy(np.ones((2, 2))), r"2 rows for 3 entities, and nothing says whose; .*--rows NAME=FILE"),
    ("x.npy", npy(np.ones((3, 2), complex)), r"features are complex128\[3, 2\]; float16 or float32"),
    ("x.npy", npy(np.full((3, 2), 1e300)), r"features\[0, 0\] of entity 'a' is inf; leave out the row"),
    ("x.npy", npy([[0], [np.nan], [0]]), r"features\[1, 0\] of entity 'b' is nan; leave out the row"),
    ("x.pt", raw(b"junk"), r"not a plain file of tensors .*; save tensors alone again"),
    ("x.pt", raw(b""), r"not a plain file of tensors"),
    ("x.pt", pt(Path("x")), r"not a plain file of tensors \(Weights only"),
    ("x.pt", pt([1, 2]), r"holds a list; a matrix, or a dict of tensors, is needed"),
    ("x.pt", pt({}), r"holds a dict; a matrix, or a dict of tensors"),
    ("x.pt", pt({"a": [1, 2]}), r"holds a dict; a matrix, or a dict of tensors"),
    ("x.pt", pt({"a": TWO, "b": THREE}), r"vectors have widths \[2, 3\]; all must be of one"),
    ("x.pt", pt({"a": TWO, "z": TWO}), r"'z' is not the key of any entity.*; correct it or leave out"),
    ("x.pt", pt({"a": tensor(), "b": tensor()}), r"holds \['a', 'b'\]; .*one matrix alone"),
    ("x.pt", pt({"features": tensor(), "rows": THREE}), r"rows are float32\[3\]; int64\[n\] entity ids"),
    ("x.pt", pt({"features": tensor(), "rows": torch.arange(2)}), r"rows are int64\[2\]; int64\[3\]"),
    ("x.pt", pt({"features": tensor(), "rows": torch.arange(1, 4)}), r"rows\[2\] = 3 is not an entity id"),
]


@pytest.mark.parametrize(("name", "write", "words"), ERRORS, ids=[words[:50] for *_, words in ERRORS])
def test_what_cannot_be_features_is_explained(
    graph: Path, tmp_path: Path, name: str, write: Write, words: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(DatasetError, match=words) as caught:
        read(graph, tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "content", "words"),
    [
        ("rows.txt", b"a\nx\nb\n", r"rows.txt:2: 'x' is not the key of any entity.*leave out its row"),
        ("rows.txt", b"a\nb\na\n", r"rows.txt:3: entity key 'a' stands on line 1 already"),
        ("rows.txt", b"a\nb\n", r"rows are int64\[2\]; int64\[3\] is needed"),
        ("rows.npy", b"junk", r"rows.npy: not a plain NumPy array"),
        ("rows.npy", None, r"rows.npy: no such file; --rows NAME=FILE needs one"),
        ("rows.txt", None, r"rows.txt: no such file"),
    ],
)
def test_broken_rows_are_named(
    graph: Path, tmp_path: Path, rows: str, content: bytes | None, words: str
) -> None:
    np.save(tmp_path / "x.npy", np.array(MATRIX))
    if content is not None:
        (tmp_path / rows).write_bytes(content)
    with pytest.raises(DatasetError, match=words):
        read(graph, tmp_path / "x.npy", tmp_path / rows)


def test_rows_given_twice_are_refused(graph: Path, tmp_path: Path) -> None:
    torch.save({"features": tensor(), "rows": torch.arange(3)}, tmp_path / "x.pt")
    (tmp_path / "rows.txt").write_text("a\nb\nc\n")
    with pytest.raises(DatasetError, match=r"x.pt: says itself whose rows it holds; leave out .*rows.txt"):
        read(graph, tmp_path / "x.pt", tmp_path / "rows.txt")


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_torch_files_are_refused_whatever_the_damage(
    graph: Path, tmp_path: Path, zipped: bool
) -> None:
    file = tmp_path / "x.pt"
    torch.save({"features": tensor(), "rows": torch.arange(3)}, file, _use_new_zipfile_serialization=zipped)
    intact, generator = file.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(intact[: generator.randrange(20, len(intact))])
        damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        file.write_bytes(damaged)
        try:
            read(graph, file)
        except DatasetError:
            refused += 1
    assert refused > 50  # the last bytes may be padding


@pytest.mark.parametrize("name", ["x.npy", "x.pt", "x.safetensors"])
def test_a_file_that_cannot_be_read_is_named(graph: Path, tmp_path: Path, name: str) -> None:
    unreadable(tmp_path / name)
    with pytest.raises(DatasetError, match=rf"{name}: cannot be read \(.*\); a readable file is needed"):
        read(graph, tmp_path / name)


def test_rows_that_cannot_be_read_are_named(graph: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array(MATRIX))
    unreadable(tmp_path / "rows.npy")
    with pytest.raises(DatasetError, match=r"rows.npy: cannot be read \(.*\); a readable file is needed"):
        read(graph, tmp_path / "x.npy", tmp_path / "rows.npy")
