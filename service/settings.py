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
    metrics_keys: SecretStr | None = Field(
        None, description="Bearer keys that may read /metrics only, or their hashes."
    )
    metrics_keys_file: Path | None = Field(
        None, description="File of bearer keys that may read /metrics only, one a line."
    )
    allow_anonymous: bool = Field(
        False, description="Listen beyond this machine without keys: any client may ask."
    )
    allowed_hosts: str = Field(
        "", description="Names besides localhost that a local server without keys answers to, between commas."
    )
    root_path: str = Field(
        "", pattern=r"^(/[A-Za-z0-9._~-]+)*$", description="Prefix that a proxy takes off each path, as /kg."
    )
    public_docs: bool = Field(False, description="Show /docs and /openapi.json to those without a key.")
    public_metrics: bool = Field(False, description="Show /metrics to those without a key.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where queries are encoded.")
    engine: Literal["auto", "faiss", "scan", "scan-bfloat16", "scan-int8"] = Field(
        "auto", description="What finds candidates; auto measures, batch size by batch size."
    )
    scorers: int = Field(
        1,
        ge=1,
        description="Scoring processes; they share the processors, and each has a GPU where several are.",
    )
    min_recall: float = Field(
        0.9, ge=0, le=1, description="Least recall@10 of a bundle's approximate index that is served."
    )
    max_queries: int = Field(64, ge=1, description="Most queries in one request.")
    max_k: int = Field(1000, ge=1, description="Most candidates a query may ask for.")
    max_candidates: int = Field(
        10_000, ge=1, description="Most candidates in one request: its queries times k."
    )
    max_batch: int = Field(
        128, ge=1, description="Most queries of several requests that are scored together."
    )
    max_queue: int = Field(1024, ge=1, description="Most queries that wait; more are refused with a 429.")
    max_body_bytes: int = Field(4_194_304, ge=1, description="Most bytes in the body of a request.")
    max_connections: int = Field(1000, ge=1, description="Most connections that are open at a time.")
    timeout_s: float = Field(
        10.0, gt=0, description="Time for answering a request, which its X-Request-Timeout-Ms may shorten."
    )
    receive_timeout_s: float = Field(
        10.0, gt=0, description="Time for a request's header to arrive, and for its body."
    )
    linger_s: float = Field(
        0.0, ge=0, description="Time for which a server that was told to end still takes connections."
    )
    rate_limit: float = Field(
        0.0, ge=0, description="Queries a second that a client may ask in the long run; 0 for any number."
    )
    rate_burst: int = Field(128, ge=1, description="Queries that a client may ask at once within rate_limit.")
    stuck_s: float = Field(
        60.0, gt=0, description="Time for one batch after which the scorer is ended and replaced."
    )
    max_failures: int = Field(5, ge=1, description="Batches failing in a row after which /livez fails.")
    watch: bool = Field(
        False, description="Serve the new bundle when BUNDLE, as a symbolic link, comes to lead to another."
    )
    traces: bool = Field(
        False, description="Send OpenTelemetry traces of predictions (OTEL_EXPORTER_OTLP_ENDPOINT)."
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

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        """A mistyped mount must not become an open server."""
        if not (self.is_local or self.has_api_keys or self.allow_anonymous):
            raise ValueError(
                f"host {self.host} is open to other machines and there are no keys; give MOMOK_API_KEYS or "
                "--api-keys-file, or allow everybody with --allow-anonymous"
            )
        return self

    @property
    def has_api_keys(self) -> bool:
        return (self.api_keys, self.api_keys_file) != (None, None)

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
