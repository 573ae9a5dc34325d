"""Manifest: what a bundle says about itself, ``manifest.json``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from model.decision import Decision

FORMAT_VERSION: Literal[1] = 1
_CHUNK_BYTES = 1 << 20


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileDigest(_Part):
    """What a file must be."""

    sha256: str
    size_bytes: int


class BranchShape(_Part):
    name: str
    width: int


class IndexInfo(_Part):
    """How candidates are found. A flat index is exact, so it needs no measured recall."""

    kind: Literal["flat"] = "flat"
    parameters: dict[str, Any] = Field(default_factory=dict)
    recall: dict[str, float] = Field(default_factory=dict)


class GoldenQuery(_Part):
    """A query and its answer as the exporting process saw it; ``relation`` in [0, 2R)."""

    entity: int
    relation: int
    entities: list[int]
    scores: list[float]


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
    golden: list[GoldenQuery]
    provenance: dict[str, Any]
    files: dict[str, FileDigest]

    @property
    def version(self) -> str:
        """Twelve hex digits that change whenever any file of the bundle does."""
        digests = "".join(f"{name} {self.files[name].sha256}\n" for name in sorted(self.files))
        return hashlib.sha256(digests.encode()).hexdigest()[:12]

    def lines(self) -> list[str]:
        """The manifest in a few lines for people."""
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        branches = ", ".join(f"{branch.name} {branch.width}" for branch in self.branches)
        size_bytes = sum(file.size_bytes for file in self.files.values())
        lines = [
            f"bundle {self.name}, version {self.version}, exported {self.created_at}",
            f"  {counts}; {size_bytes / 1e6:.1f} MB",
            f"  {self.model['model']}: branches {branches}",
            f"  decision {self.decision}; index {self.index.kind}",
        ]
        for split, report in self.metrics.items():
            metrics = report["metrics"]
            lines.append(f"  {split}: MRR {metrics['mrr']:.4f}, Hits@10 {metrics['hits@10']:.4f}")
        return lines


def digest_of(path: Path) -> FileDigest:
    """Hash and size of a file, read in pieces."""
    digest = hashlib.sha256()
    size_bytes = 0
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
            size_bytes += len(piece)
    return FileDigest(sha256=digest.hexdigest(), size_bytes=size_bytes)
