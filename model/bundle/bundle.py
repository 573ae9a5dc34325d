"""Bundle: the self-contained directory that training exports and the service loads.

``manifest.json`` · ``weights.safetensors`` (the model) · ``entities.safetensors`` (candidates: one table a
branch, gates, weights, presence) · ``known.safetensors`` (known answers) · ``vocabulary.sqlite`` (names) ·
``pictures/<entity id>.<suffix>`` where there is one · ``index/concat.faiss`` where it is approximate.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file

from momok.model.bundle.catalogue import Catalogue
from momok.model.bundle.manifest import (
    CONCAT,
    FORMAT_VERSION,
    BranchShape,
    FileDigest,
    Manifest,
    digest_of,
)
from momok.model.bundle.pictures import Picture, entity_of, media_type_of
from momok.model.bundle.vocabulary import Vocabulary, VocabularyError
from momok.model.errors import UserError, describe
from momok.model.filter_index import FilterIndex
from momok.model.networks.base import Candidates, LinkPredictor, build_model, parse_config
from momok.model.retrieval.index import EntityIndex

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
ENTITIES = "entities.safetensors"
KNOWN = "known.safetensors"
VOCABULARY = "vocabulary.sqlite"
FILES = (WEIGHTS, ENTITIES, KNOWN, VOCABULARY)

TABLE, GATES = "table.", "expert_gates."
WEIGHTS_OF_MODALITIES, PRESENT = "modality_weights", "present"
"""What ``entities.safetensors`` holds: of each branch, of each modality with experts, of all."""

_ROWS_AT_ONCE = 65_536


class BundleError(UserError):
    """A bundle that cannot be opened or written; the message names the file and the remedy."""


@dataclass(frozen=True, eq=False)
class Bundle(Catalogue):
    """An opened bundle: a catalogue, the model in evaluation mode on its device, and the candidates."""

    model: LinkPredictor
    candidates: Candidates

    def index(self) -> EntityIndex | None:
        """The approximate index over the branches side by side; None where there is none to use.

        Bundles of earlier versions may hold indexes for scores that are no inner product: these bundles are
        scanned. Raises ``BundleError``.
        """
        info = self.manifest.index
        if info.spaces != [CONCAT] or self.model.decision != "sum":
            return None
        width = sum(branch.width for branch in self.model.branches)
        with _explained(self.path, info.files[CONCAT]):
            return EntityIndex.read(
                self.path / info.files[CONCAT], info.spec, self.config.num_entities, width
            )

    @classmethod
    def open(cls, path: Path, device: torch.device | None = None) -> Bundle:
        """Verify every file, then load. Raises ``BundleError`` naming what is missing, damaged or foreign."""
        manifest = read_manifest(path)
        for name, digest in manifest.files.items():
            _verify(path / name, digest)
        with _explained(path, WEIGHTS):
            model = build_model(parse_config(manifest.model))
            model.load_state_dict(load_file(path / WEIGHTS))
        with _explained(path, ENTITIES):
            candidates = _read_candidates(path / ENTITIES, model)
        catalogue = read_catalogue(path, manifest)
        bundle = cls(**vars(catalogue), model=model.eval().to(device), candidates=candidates)
        bundle._check_agreement()
        return bundle

    def _check_agreement(self) -> None:
        """What the manifest and the vocabulary repeat must be what the model says."""
        config = self.config
        sizes = {"entities": config.num_entities, "relations": config.num_relations}
        for query in self.manifest.golden:
            answered = max(query.entity, *query.entities)
            if answered >= config.num_entities or query.relation >= 2 * config.num_relations:
                raise BundleError(f"{self.path / MANIFEST}: golden names ids beyond {sizes}; export again")
        if len(self.pictures) != len(self.manifest.files) - len(FILES) - len(self.manifest.index.spaces):
            raise BundleError(f"{self.path / MANIFEST}: lists two pictures of one entity; export again")
        for entity, picture in self.pictures.items():
            if entity >= config.num_entities:
                raise BundleError(f"{picture.path}: a picture of an id beyond {sizes}; export again")
        named = {"entities": len(self.vocabulary.entities), "relations": len(self.vocabulary.relations)}
        stated = {kind: self.manifest.counts.get(kind) for kind in sizes}
        branches = [BranchShape.of(branch) for branch in self.model.branches]
        for name, what, found, expected in (
            (VOCABULARY, "counts", named, sizes),
            (MANIFEST, "counts", stated, sizes),
            (MANIFEST, "branches", self.manifest.branches, branches),
            (MANIFEST, "decision", self.manifest.decision, self.model.decision),
        ):
            if found != expected:
                raise BundleError(
                    f"{self.path / name}: {what} {found}, the model has {expected}; export again"
                )


def is_bundle(path: Path) -> bool:
    """Whether a directory claims to be a bundle."""
    return (path / MANIFEST).exists()


def read_manifest(path: Path) -> Manifest:
    """Read ``manifest.json`` alone. Raises ``BundleError``."""
    file = path / MANIFEST
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        version = fields["format_version"]
    except FileNotFoundError:
        reason = "is not a bundle: it has no manifest.json" if path.is_dir() else "no such directory"
        raise BundleError(f"{path}: {reason}; `momok export` writes one") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{file}: not a readable manifest ({error!r}); export again") from None
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{file}: format_version {version!r}, this momok reads {FORMAT_VERSION}; "
            "export again or install the momok that wrote it"
        )
    try:
        manifest = Manifest.model_validate(fields)
    except ValidationError as error:
        raise BundleError(f"{file}: {describe(error)}; export again") from None
    listed = {name for name in manifest.files if entity_of(name) is None}
    expected = {*FILES, *manifest.index.files.values()}
    if listed != expected:
        raise BundleError(f"{file}: lists {sorted(listed)}, expected {sorted(expected)}; export again")
    return manifest


def read_catalogue(path: Path, manifest: Manifest | None = None) -> Catalogue:
    """A bundle without its weights, verified elsewhere. Raises ``BundleError``."""
    manifest = manifest or read_manifest(path)
    with _explained(path, ENTITIES), safe_open(path / ENTITIES, "numpy") as file:
        config, present = parse_config(manifest.model), file.get_tensor(PRESENT)
    with _explained(path, KNOWN):
        known = FilterIndex(config.num_entities, config.num_relations, **load_arrays(path / KNOWN))
    try:
        vocabulary = Vocabulary.open(path / VOCABULARY)
    except VocabularyError as error:
        raise BundleError(str(error)) from None
    # Of the directory that was verified, also where ``path`` is a link that may be turned to another.
    directory = path.resolve()
    pictures = {
        entity: Picture(directory / name, media_type_of(name), digest.sha256)
        for name, digest in manifest.files.items()
        if (entity := entity_of(name)) is not None
    }
    return Catalogue(path, manifest, config, present, known, vocabulary, pictures)


def _verify(path: Path, digest: FileDigest) -> None:
    try:
        size_bytes = path.stat().st_size
        if size_bytes != digest.size_bytes:
            raise BundleError(
                f"{path}: {size_bytes} bytes, the manifest says {digest.size_bytes}; was it copied whole? "
                "Copy or export it again"
            )
        if digest_of(path).sha256 != digest.sha256:
            raise BundleError(f"{path}: its sha256 is not the manifest's; copy or export it again")
    except FileNotFoundError:
        raise BundleError(f"{path}: missing; copy the whole bundle or export it again") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); may this user read it?") from None


def _read_candidates(path: Path, model: LinkPredictor) -> Candidates:
    with safe_open(path, "pt") as file:
        joined_NX = _read_tables(file, model)
        if not torch.equal(file.get_tensor(PRESENT), model.present):
            raise ValueError("it says otherwise than the weights which entities have which modality")
        gates = {name: file.get_tensor(GATES + name) for name in model.gated_modalities}
        columns = torch.split(joined_NX, [branch.width for branch in model.branches], dim=1)
        vectors = {branch.name: rows for branch, rows in zip(model.branches, columns, strict=True)}
        return Candidates(vectors, file.get_tensor(WEIGHTS_OF_MODALITIES), gates, joined_NX)


def _read_tables(file: Any, model: LinkPredictor) -> torch.Tensor:
    """The tables side by side, float32[N, X], as retrieval reads them: memory holds no second copy."""
    num_entities, start = model.config.num_entities, 0
    joined_NX = torch.empty(num_entities, sum(branch.width for branch in model.branches))
    for branch in model.branches:
        rows = file.get_slice(TABLE + branch.name)
        if rows.get_shape() != [num_entities, branch.width] or rows.get_dtype() != "F32":
            found = f"{rows.get_dtype()} {tuple(rows.get_shape())}"
            raise ValueError(f"{branch.name} is {found}, expected F32 {(num_entities, branch.width)}")
        for row in range(0, num_entities, _ROWS_AT_ONCE):
            part = slice(row, row + _ROWS_AT_ONCE)
            joined_NX[part, start : start + branch.width] = rows[part]
        start += branch.width
    return joined_NX


@contextmanager
def _explained(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())  # torch lists what does not fit over many lines
        raise BundleError(
            f"{path / name}: does not fit the manifest ({reason}); export the bundle again"
        ) from None
