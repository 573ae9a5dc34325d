"""Settings: what an operator chooses. One object is flags, environment, file, their help and the defaults.

``service/sources.py`` reads it from those places.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic.fields import FieldInfo

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Settings(BaseModel):
    """Everything a server is started with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Path = Field(description="Bundle directory to serve.")
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    tls_cert: Path | None = Field(None, description="Certificate chain (PEM); with --tls-key, serve HTTPS.")
    tls_key: Path | None = Field(None, description="Private key of the certificate (PEM).")
    api_keys: SecretStr | None = Field(
        None, description="Bearer keys that may ask, or their hashes, between spaces or commas."
    )
    api_keys_file: Path | None = Field(None, description="File of bearer keys that may ask, one a line.")
    admin_keys: SecretStr | None = Field(
        None, description="Bearer keys for /admin, or their hashes, between spaces or commas."
    )
    admin_keys_file: Path | None = Field(None, description="File of bearer keys for /admin, one a line.")
    public_docs: bool = Field(False, description="Show /docs and /openapi.json to those without a key.")
    public_metrics: bool = Field(False, description="Show /metrics to those without a key.")
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

    @model_validator(mode="after")
    def _reachable_limits(self) -> Self:
        for name in ("max_k", "max_queries"):
            if getattr(self, name) > self.max_candidates:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, but max_candidates lets a request have only "
                    f"{self.max_candidates}, so that can never be asked; raise max_candidates or lower {name}"
                )
        return self

    @model_validator(mode="after")
    def _whole_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            given, lacking = ("tls_cert", "tls_key") if self.tls_key is None else ("tls_key", "tls_cert")
            raise ValueError(f"{given} is given without {lacking}; HTTPS needs both")
        return self

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the port."""
        return self.host in LOOPBACK


def is_secret(field: FieldInfo) -> bool:
    """Secrets have no flag: other users of a machine see the command lines of its processes."""
    return field.annotation == SecretStr | None


def flag(name: str) -> str:
    """``max_k`` as ``--max-k``."""
    return f"--{name.replace('_', '-')}"


def variable(name: str) -> str:
    """``max_k`` as ``MOMOK_MAX_K``."""
    return f"MOMOK_{name.upper()}"
