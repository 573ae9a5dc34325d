"""Settings: what an operator chooses. One object is the command line's flags, their help and the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Everything a server is started with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Path = Field(description="Bundle directory to serve.")
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where queries are encoded.")
    engine: Literal["auto", "faiss", "scan", "scan-bfloat16"] = Field(
        "auto", description="What finds candidates; auto measures, batch size by batch size."
    )
    min_recall: float = Field(
        0.9, ge=0, le=1, description="Least recall@10 of a bundle's approximate index that is served."
    )
    max_queries: int = Field(64, ge=1, description="Most queries in one request.")
    max_k: int = Field(1000, ge=1, description="Most candidates a query may ask for.")
    max_candidates: int = Field(
        10_000, ge=1, description="Most candidates in one request: its queries times k."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe line logged."
    )
