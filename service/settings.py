"""Settings: what an operator chooses. One object is the command line's flags, their help and the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """Everything a server is started with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Path = Field(description="Bundle directory to serve.")
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where queries are encoded.")
    engine: Literal["auto", "faiss", "scan"] = Field(
        "auto", description="What finds candidates: faiss, scan, or by measuring, batch size by batch size."
    )
    max_queries: int = Field(64, ge=1, description="Most queries in one request.")
    max_k: int = Field(1000, ge=1, description="Most candidates a query may ask for.")
    max_candidates: int = Field(
        10_000, ge=1, description="Most candidates in one request: its queries times k."
    )
    max_batch: int = Field(64, ge=1, description="Most queries of several requests that are scored together.")
    max_queue: int = Field(1024, ge=1, description="Most queries that wait; more are refused with a 429.")
    max_body_bytes: int = Field(4_194_304, ge=1, description="Most bytes in the body of a request.")
    max_connections: int = Field(1000, ge=1, description="Most connections that are open at a time.")
    timeout_s: float = Field(
        10.0, gt=0, description="Time for answering a request, which its X-Request-Timeout-Ms may shorten."
    )
    receive_timeout_s: float = Field(
        10.0, gt=0, description="Time for a request's header to arrive, and for its body."
    )
    rate_limit: float = Field(
        0.0, ge=0, description="Queries a second that a client may ask in the long run; 0 for any number."
    )
    rate_burst: int = Field(128, ge=1, description="Queries that a client may ask at once within rate_limit.")
    stuck_s: float = Field(60.0, gt=0, description="Time for one batch after which /livez fails.")
    max_failures: int = Field(5, ge=1, description="Batches failing in a row after which /livez fails.")
    watch: bool = Field(
        False, description="Serve the new bundle when BUNDLE, as a symbolic link, comes to lead to another."
    )
    log_format: Literal["text", "json"] = Field("text", description="Form of a logged line.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe line logged."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """What one limit allows, another must not make impossible."""
        if self.max_queue < self.max_queries:
            raise ValueError(f"max_queue {self.max_queue} is below max_queries {self.max_queries}")
        if self.rate_limit and self.rate_burst < self.max_queries:
            raise ValueError(f"rate_burst {self.rate_burst} is below max_queries {self.max_queries}")
        return self
