"""Bundles: read as they were written, to the bit; every kind of damage is refused and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_tensors

from momok.model.bundle.bundle import (
    ENTITIES,
    FILES,
    KNOWN,
    MANIFEST,
    VOCABULARY,
    WEIGHTS,
    Bundle,
    BundleError,
    is_bundle,
    read_catalogue,
    read_manifest,
)
from momok.model.bundle.manifest import Manifest, digest_of
from momok.model.bundle.writer import save_bundle
from momok.model.filter_index import FilterIndex
from momok.model.networks.base import LinkPredictor
from momok.model.scorer import table_of

WriteBundle = Callable[..., None]


@pytest.fixture
def copy(small_bundle: Path, tmp_path: Path) -> Path:
    """A bundle to damage."""
    return Path(shutil.copytree(small_bundle, tmp_path / "bundle"))


def refused(path: Path, name: str | None, *words: str) -> str:
    """Opening fails in one line that names the file and holds the words."""
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    message = str(caught.value)
    assert message.startswith(f"{path if name is None else path / name}: ")
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def edit(path: Path, **fields: Any) -> None:
    """Change fields of the manifest; None takes one out."""
    manifest = json.loads((path / MANIFEST).read_text()) | fields
    (path / MANIFEST).write_text(json.dumps({name: v for name, v in manifest.items() if v is not None}))


def rehash(path: Path, name: str) -> None:
    """Have the manifest agree with a changed file, as one who changes it on purpose would."""
    files = json.loads((path / MANIFEST).read_text())["files"]
    edit(path, files=files | {name: digest_of(path / name).model_dump()})


def test_opened_it_is_what_was_written_to_the_bit(
    small_bundle: Path, small_model: LinkPredictor, facts: dict[str, np.ndarray]
) -> None:
    bundle = Bundle.open(small_bundle)
    assert bundle.path == small_bundle
    assert not bundle.model.training
    assert bundle.model.config == small_model.config
    expected_state = small_model.state_dict()
    assert bundle.model.state_dict().keys() == expected_state.keys()
    for name, tensor in bundle.model.state_dict().items():
        assert torch.equal(tensor, expected_state[name])
    with torch.inference_mode():
        expected = small_model.candidates()
    assert torch.equal(bundle.candidates.modality_weights, expected.modality_weights)
    for found, made in (
        (bundle.candidates.vectors, expected.vectors),
        (bundle.candidates.expert_gates, expected.expert_gates),
    ):
        assert list(found) == list(made)
        assert all(torch.equal(found[name], tensor) for name, tensor in made.items())
    known = FilterIndex.from_facts(facts, num_entities=40, num_relations=4)
    for name in ("queries", "offsets", "answers", "splits"):
        assert getattr(bundle.known, name).dtype == getattr(known, name).dtype
        assert getattr(bundle.known, name).tolist() == getattr(known, name).tolist()
    assert bundle.vocabulary.entities.keys == tuple(f"Q{index}" for index in range(40))
    assert bundle.vocabulary.relations.labels == tuple(f"rel {index}" for index in range(4))


def test_it_is_described_alike_with_and_without_what_scores(small_bundle: Path) -> None:
    whole, alone = Bundle.open(small_bundle), read_catalogue(small_bundle)
    for name in ("path", "manifest", "config", "pictures", "num_relations", "modality_names"):
        assert getattr(alone, name) == getattr(whole, name)
    assert alone.branch_names == whole.branch_names == [branch.name for branch in whole.model.branches]
    assert alone.decision == whole.decision == whole.model.decision
    assert np.array_equal(alone.present, whole.present)
    assert np.array_equal(alone.known.answers, whole.known.answers)
    assert alone.vocabulary.entities.keys == whole.vocabulary.entities.keys


@pytest.mark.parametrize("name", [ENTITIES, KNOWN, VOCABULARY])
def test_what_cannot_be_described_says_which_file(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"nonsense")
    with pytest.raises(BundleError, match=name):
        read_catalogue(copy)


def test_the_same_bundle_written_twice_has_one_version(
    small_bundle: Path,
    small_model: LinkPredictor,
    facts: dict[str, np.ndarray],
    write_bundle: WriteBundle,
    tmp_path: Path,
) -> None:
    write_bundle(tmp_path / "again", small_model, facts)
    assert read_manifest(tmp_path / "again").version == read_manifest(small_bundle).version
    write_bundle(tmp_path / "other", small_model, facts | {"test": facts["valid"]})
    assert read_manifest(tmp_path / "other").version != read_manifest(small_bundle).version


def test_it_holds_its_files_and_nothing_else_readable_by_all(small_bundle: Path) -> None:
    assert sorted(file.name for file in small_bundle.iterdir()) == sorted([MANIFEST, *FILES])
    assert [file.name for file in small_bundle.parent.iterdir()] == [small_bundle.name]
    plain = small_bundle.parent.parent / "plain"
    plain.touch()
    for file in small_bundle.iterdir():
        assert file.stat().st_mode == plain.stat().st_mode


def test_candidates_hold_presence_too(small_bundle: Path, small_model: LinkPredictor) -> None:
    assert torch.equal(load_tensors(small_bundle / ENTITIES)["present"], small_model.present)


def test_tables_are_held_once_for_the_model_and_for_retrieval(opened: Bundle) -> None:
    table = table_of(opened.model, opened.candidates)
    vectors = opened.candidates.vectors.values()
    assert all(np.shares_memory(table.joined_NX, rows.numpy()) for rows in vectors)


def test_only_a_directory_with_a_manifest_claims_to_be_a_bundle(copy: Path) -> None:
    assert is_bundle(copy)
    (copy / MANIFEST).unlink()
    assert not is_bundle(copy)
    assert not is_bundle(copy / "nowhere")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    refused(copy, name, "missing")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_a_directory_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    (copy / name).mkdir()
    refused(copy, name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0, 1, -1])
def test_a_truncated_file_is_named(copy: Path, name: str, kept: int) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[:kept])
    refused(copy, name, f"the manifest says {len(whole)}")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_flipped_bit_is_named(copy: Path, name: str, place: float) -> None:
    content = bytearray((copy / name).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    (copy / name).write_bytes(content)
    refused(copy, name, "sha256")


@pytest.mark.parametrize("name", FILES)
def test_files_of_another_bundle_are_refused(
    copy: Path,
    name: str,
    make_model: Callable[..., LinkPredictor],
    facts: dict[str, np.ndarray],
    write_bundle: WriteBundle,
    tmp_path: Path,
) -> None:
    model = make_model("momok", 2, num_entities=41, num_relations=5)
    write_bundle(tmp_path / "other", model, facts)
    shutil.copy(tmp_path / "other" / name, copy / name)
    refused(copy, name)


def test_a_place_without_a_manifest_is_no_bundle(copy: Path, tmp_path: Path) -> None:
    (copy / MANIFEST).unlink()
    refused(copy, None, "no manifest.json", "momok export")
    refused(tmp_path / "nowhere", None, "no such directory")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", MANIFEST)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"[1]", b"null", b'"text"', b"3", b"{}", b'{"format_version"}']
)
def test_a_manifest_that_is_none_is_named(copy: Path, content: bytes) -> None:
    (copy / MANIFEST).write_bytes(content)
    refused(copy, MANIFEST, "not a readable manifest")


@pytest.mark.parametrize("version", [0, 2, "1", 1.5, [1]])
def test_an_unknown_version_is_refused_first(copy: Path, version: object) -> None:
    edit(copy, format_version=version, name=17, unheard="of")
    refused(copy, MANIFEST, f"format_version {version!r}", "reads 1")


@pytest.mark.parametrize("field", sorted(set(Manifest.model_fields) - {"format_version"}))
def test_a_field_missing_from_the_manifest_is_named(copy: Path, field: str) -> None:
    edit(copy, **{field: None})
    refused(copy, MANIFEST, f"{field}: Field required")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"surprise": 1}, "surprise: "),
        ({"index": {"kind": "flat", "surprise": 1}}, "index.surprise: "),
        ({"index": {"kind": "annoy"}}, "index.kind: "),
        ({"decision": "vote"}, "decision: "),
        ({"counts": {"entities": "many"}}, "counts.entities: "),
        ({"files": {"weights.safetensors": {"sha256": "0"}}}, "size_bytes: "),
        ({"golden": [{"entity": 1}]}, "golden.0.relation: "),
        ({"golden": []}, "golden: "),
        ({"golden": [{"entity": 1, "relation": 0, "entities": [1, 2], "scores": [0.5]}]}, "2 entities but 1"),
        ({"golden": [{"entity": 10**6, "relation": 0, "entities": [1], "scores": [0.5]}]}, "beyond"),
        ({"golden": [{"entity": 1, "relation": 99, "entities": [1], "scores": [0.5]}]}, "beyond"),
        ({"golden": [{"entity": 1, "relation": 0, "entities": [1, -1], "scores": [1, 0]}]}, "entities.1: "),
        ({"golden": [{"entity": 1, "relation": 0, "entities": [10**6], "scores": [0.5]}]}, "beyond"),
        ({"metrics": {"test": {}}}, "'test' lacks its metrics"),
    ],
)
def test_a_wrong_field_of_the_manifest_is_named(copy: Path, fields: dict[str, Any], word: str) -> None:
    edit(copy, **fields)
    refused(copy, MANIFEST, word)


def test_the_version_changes_with_the_manifest(copy: Path) -> None:
    before = read_manifest(copy).version
    edit(copy, name="renamed")
    assert read_manifest(copy).version != before


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "index/../../x", "extra.bin", "", "."])
def test_a_manifest_that_lists_other_files_is_refused_before_they_are_touched(copy: Path, name: str) -> None:
    (copy.parent / "secret").write_text("x")
    files = json.loads((copy / MANIFEST).read_text())["files"]
    edit(copy, files=files | {name: digest_of(copy.parent / "secret").model_dump()})
    refused(copy, MANIFEST, "lists", "expected")
    renamed = dict(files)
    renamed[name] = renamed.pop(WEIGHTS)
    edit(copy, files=renamed)
    refused(copy, MANIFEST, "lists", "expected")


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (["pictures/../secret.png"], "expected"),
        (["pictures/0.svg"], "expected"),
        (["pictures/00.png"], "expected"),
        (["pictures/" + "1" * 5000 + ".png"], "expected"),
        (["pictures/0.png", "pictures/0.jpg"], "lists two pictures of one entity"),
    ],
)
def test_a_manifest_that_lists_pictures_of_no_entity_is_refused(
    copy: Path, names: list[str], word: str
) -> None:
    (copy / "pictures").mkdir()
    for suffix in ("png", "jpg"):
        (copy / "pictures" / f"0.{suffix}").write_bytes(b"x")
    digest = digest_of(copy / "pictures" / "0.png").model_dump()
    edit(copy, files=json.loads((copy / MANIFEST).read_text())["files"] | dict.fromkeys(names, digest))
    refused(copy, MANIFEST, word)


def test_a_picture_of_an_id_beyond_the_entities_is_refused(copy: Path) -> None:
    (copy / "pictures").mkdir()
    (copy / "pictures" / "40.png").write_bytes(b"x")
    rehash(copy, "pictures/40.png")
    refused(copy, "pictures/40.png", "beyond")


@pytest.mark.parametrize("name", FILES)
def test_a_manifest_that_lists_fewer_files_is_refused(copy: Path, name: str) -> None:
    files = json.loads((copy / MANIFEST).read_text())["files"]
    del files[name]
    edit(copy, files=files)
    refused(copy, MANIFEST, "lists")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("counts", {"entities": 41, "relations": 4}),
        ("counts", {"entities": 40, "relations": 3}),
        ("counts", {"relations": 4}),
        ("decision", "sum"),
        ("branches", []),
        ("branches", [{"name": "structure", "width": 6}]),
    ],
)
def test_a_manifest_that_disagrees_with_its_model_is_refused(copy: Path, field: str, value: object) -> None:
    edit(copy, **{field: value})
    refused(copy, MANIFEST, field)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"num_entities": 41}, "size mismatch"),
        ({"num_relations": 3}, "size mismatch"),
        ({"num_experts": 2}, "size mismatch"),
        ({"model": "nonesuch"}, "'nonesuch' is not known"),
        ({"model": []}, "is not known"),
        ({"surprise": 1}, "surprise: "),
        ({"modalities": []}, "modalities: "),
        ({"gate_noise": False}, "Unexpected key"),
        ({"num_entities": 10**15}, ""),
    ],
)
def test_weights_that_do_not_fit_the_configuration_are_named(
    copy: Path, changes: dict[str, Any], word: str
) -> None:
    edit(copy, model=read_manifest(copy).model | changes)
    refused(copy, WEIGHTS, word)


@pytest.mark.parametrize("name", [WEIGHTS, ENTITIES, KNOWN])
@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 100])
def test_a_file_of_no_tensors_is_named_even_if_the_manifest_agrees(
    copy: Path, name: str, content: bytes
) -> None:
    (copy / name).write_bytes(content)
    rehash(copy, name)
    refused(copy, name, "does not fit the manifest")


def test_a_vocabulary_that_is_none_is_named_even_if_the_manifest_agrees(copy: Path) -> None:
    (copy / VOCABULARY).write_bytes(b"no database at all")
    rehash(copy, VOCABULARY)
    refused(copy, VOCABULARY, "not a readable vocabulary")


def test_a_vocabulary_of_another_size_is_named_even_if_the_manifest_agrees(
    copy: Path,
    make_model: Callable[..., LinkPredictor],
    facts: dict[str, np.ndarray],
    write_bundle: WriteBundle,
    tmp_path: Path,
) -> None:
    write_bundle(tmp_path / "other", make_model("momok", 1, num_entities=41, num_relations=4), facts)
    shutil.copy(tmp_path / "other" / VOCABULARY, copy / VOCABULARY)
    rehash(copy, VOCABULARY)
    refused(copy, VOCABULARY, "'entities': 41", "'entities': 40")


@pytest.mark.parametrize(
    ("tensor", "place", "value", "word"),
    [
        ("queries", 0, 10**6, "query is out of range"),
        ("queries", 1, 0, "queries must ascend"),
        ("answers", 0, 40, "answer is out of range"),
        ("splits", 0, 8, "split code is out of range"),
    ],
)
def test_known_answers_that_are_no_filter_index_are_named_even_if_the_manifest_agrees(
    copy: Path, tensor: str, place: int, value: int, word: str
) -> None:
    tensors = load_file(copy / KNOWN)
    tensors[tensor][place] = value
    save_file(tensors, copy / KNOWN)
    rehash(copy, KNOWN)
    refused(copy, KNOWN, word)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        (ENTITIES, "table.joint"),
        (ENTITIES, "present"),
        (KNOWN, "queries"),
        (KNOWN, "offsets"),
        (KNOWN, "answers"),
        (KNOWN, "splits"),
    ],
)
@pytest.mark.parametrize("change", ["missing", "shorter", "empty"])
def test_tensors_that_are_not_those_expected_are_named(
    copy: Path, name: str, tensor: str, change: str
) -> None:
    tensors = load_file(copy / name)
    if change == "missing":
        del tensors[tensor]
    else:
        tensors[tensor] = tensors[tensor][: -1 if change == "shorter" else 0]
    save_file(tensors, copy / name)
    rehash(copy, name)
    refused(copy, name, "does not fit the manifest")


def save_small(path: Path, bundle: Bundle, check: Callable[[Bundle], None]) -> None:
    manifest = read_manifest(bundle.path)

    def write_names(file: Path) -> None:
        shutil.copyfile(bundle.path / VOCABULARY, file)

    save_bundle(
        path,
        model=bundle.model,
        candidates=bundle.candidates,
        known=bundle.known,
        write_names=write_names,
        manifest=manifest,
        check=check,
    )


@pytest.fixture
def opened(small_bundle: Path) -> Iterator[Bundle]:
    bundle = Bundle.open(small_bundle)
    yield bundle
    bundle.vocabulary.close()


def test_a_bundle_read_and_saved_again_is_the_same_byte_by_byte(opened: Bundle, tmp_path: Path) -> None:
    save_small(tmp_path / "again", opened, lambda bundle: None)
    for name in (MANIFEST, *FILES):
        assert (tmp_path / "again" / name).read_bytes() == (opened.path / name).read_bytes()


def test_the_check_is_given_what_was_written_before_it_appears(opened: Bundle, tmp_path: Path) -> None:
    target, seen = tmp_path / "new", []

    def check(bundle: Bundle) -> None:
        assert not target.exists()
        seen.append(bundle.manifest)
        assert bundle.vocabulary.search("entity 7", limit=1) == [7]

    save_small(target, opened, check)
    assert seen == [read_manifest(target)]


@pytest.mark.parametrize("error", [BundleError("no"), ZeroDivisionError("no"), KeyboardInterrupt()])
def test_a_failing_check_leaves_nothing_behind(opened: Bundle, tmp_path: Path, error: BaseException) -> None:
    def check(bundle: Bundle) -> None:
        raise error

    with pytest.raises(type(error)):
        save_small(tmp_path / "new", opened, check)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["directory", "file", "dangling link"])
def test_an_existing_target_is_refused_and_left_alone(opened: Bundle, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "there"
    if kind == "directory":
        target.mkdir()
    elif kind == "file":
        target.write_text("mine")
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="there: exists already"):
        save_small(target, opened, lambda bundle: None)
    assert [file.name for file in tmp_path.iterdir()] == ["there"]
    assert kind != "file" or target.read_text() == "mine"


def test_a_target_that_cannot_be_written_is_named(opened: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="new: cannot be written"):
        save_small(tmp_path / "file" / "new", opened, lambda bundle: None)


def test_missing_parent_directories_are_made(opened: Bundle, tmp_path: Path) -> None:
    save_small(tmp_path / "a" / "b" / "new", opened, lambda bundle: None)
    assert Bundle.open(tmp_path / "a" / "b" / "new").manifest.version == opened.manifest.version
