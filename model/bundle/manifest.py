"""Manifest: what a bundle says about itself, ``manifest.json``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from momok.model.retrieval.index_spec import IndexKind, IndexSpec
from momok.model.scores import Branch, Decision, Geometry

FORMAT_VERSION: Literal[1] = 1

CONCAT = "concat"
"""The space of all branches side by side, and the name of its index."""

EntityId = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileDigest(_Part):
    """The digest and size that a file must have."""

    sha256: str
    size_bytes: int


class BranchShape(_Part):
    """One branch, as the model must have it."""

    name: str
    width: int
    geometry: Geometry = "dot"

    @classmethod
    def of(cls, branch: Branch) -> Self:
        return cls(name=branch.name, width=branch.width, geometry=branch.geometry)


class IndexInfo(_Part):
    """How candidates are found: ``flat`` is exact and built at opening, others are measured."""

    kind: IndexKind = "flat"
    parameters: dict[str, Any] = Field(default_factory=dict)
    spaces: list[str] = Field(default_factory=list, description="What is indexed; a file each.")
    recall: dict[str, float] = Field(
        default_factory=dict, description="Share of the best k that the best k of the index hold, by k."
    )
    num_queries: int = Field(0, ge=0, description="Held-out queries on which recall was measured.")
    considered: dict[str, float] = Field(
        default_factory=dict, description="Of earlier versions: recall at 10 of each choice of spaces."
    )
    build_s: float = Field(0, ge=0)
    bytes_per_entity: float = Field(0, ge=0)

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if (self.kind == "flat") != (not self.spaces) or (self.spaces and "10" not in self.recall):
            raise ValueError("an approximate index has files and a measured recall, a flat one has neither")
        IndexSpec(kind=self.kind, **self.parameters)
        return self

    @property
    def spec(self) -> IndexSpec:
        return IndexSpec(kind=self.kind, **self.parameters)

    @property
    def files(self) -> dict[str, str]:
        """space -> its file."""
        return {space: f"index/{space}.faiss" for space in self.spaces}

    def line(self) -> str:
        """For people."""
        if self.kind == "flat":
            return "index flat"
        recall = ", ".join(f"recall@{k} {share:.4f}" for k, share in self.recall.items())
        return f"index {self.kind} {self.parameters} of {', '.join(self.spaces)}: {recall}"


class GoldenQuery(_Part):
    """A query and its answer as the exporting process saw it; ``relation`` in [0, 2R)."""

    entity: EntityId
    relation: int = Field(ge=0)
    entities: list[EntityId] = Field(min_length=1)
    scores: list[float] = Field(min_length=1)

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.entities) != len(self.scores):
            raise ValueError(f"{len(self.entities)} entities but {len(self.scores)} scores")
        return self


class Manifest(_Part):
    """Everything about a bundle but its tensors and names."""

    format_version: Literal[1] = 1
    created_at: str
    name: str
    model: dict[str, Any] = Field(description="The model's configuration, name included.")
    branches: list[BranchShape]
    decision: Decision
    counts: dict[str, int]
    fingerprint: str = Field(description="Of the dataset that the model was trained on.")
    index: IndexInfo
    metrics: dict[str, Any] = Field(description="Evaluation reports by split, with their protocol.")
    golden: list[GoldenQuery] = Field(min_length=1)
    provenance: dict[str, Any]
    files: dict[str, FileDigest]

    @field_validator("metrics")
    @classmethod
    def _reports(cls, metrics: dict[str, Any]) -> dict[str, Any]:
        for split, report in metrics.items():
            try:
                float(report["metrics"]["mrr"]), str(report["protocol"])
            except (TypeError, KeyError, ValueError):
                raise ValueError(f"the report of {split!r} lacks its metrics or protocol") from None
        return metrics

    @property
    def version(self) -> str:
        """Twelve hex digits that change whenever the manifest, and so any file of the bundle, does."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def lines(self) -> list[str]:
        """The manifest in a few lines for people."""
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        branches = ", ".join(f"{branch.name} {branch.width}" for branch in self.branches)
        size_bytes = sum(file.size_bytes for file in self.files.values())
        lines = [
            f"bundle {self.name}, version {self.version}, exported {self.created_at}",
            f"  {counts}; {size_bytes / 1e6:.1f} MB",
            f"  {self.model['model']}: branches {branches}",
            f"  decision {self.decision}; {self.index.line()}",
        ]
        for split, report in self.metrics.items():
            lines.append(f"  {split}: MRR {report['metrics']['mrr']:.4f}")
        return lines


def digest_of(path: Path) -> FileDigest:
    """Hash and size of a file, which is never in memory as a whole."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileDigest(sha256=sha256, size_bytes=file.tell())
