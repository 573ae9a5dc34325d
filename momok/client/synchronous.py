"""Client: calls that block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import sleep
from typing import Any, Self, TypeVar

import httpx

from momok.client import calls
from momok.client.attempts import Attempts
from momok.client.calls import Asked, Call, Stated
from momok.service.contract.fact_schemas import RankRelationsResponse, ScoreResponse
from momok.service.contract.schemas import (
    EntityDetailsOut,
    EntityOut,
    ModelOut,
    ModelRef,
    NeighborsOut,
    PredictResponse,
    RelationsOut,
)

AnswerT = TypeVar("AnswerT")

PAGE = 200
CONNECTIONS = httpx.Limits(max_connections=16, max_keepalive_connections=16, keepalive_expiry=60)


class Client:
    """A client of one server, which threads may share. Close it, or use it in a ``with``.

    ``url`` may have a path, as behind a proxy. ``deadline_s`` is the time of a call with all its attempts.
    ``verify`` is False, or the file of a private authority's certificate. Options are the fields of the API.
    Every method raises ``ClientError``.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        deadline_s: float = 30.0,
        verify: bool | str = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._deadline_s = deadline_s
        self._http = httpx.Client(
            base_url=url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=CONNECTIONS,
            verify=verify,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the pooled connections."""
        self._http.close()

    def predict(self, queries: Sequence[Asked], **options: Any) -> PredictResponse:
        """Candidates for the missing ends, as of ``{"head": "Norway", "relation": "borders"}``."""
        return self._run(calls.predict(queries, options))

    def score(self, facts: Sequence[Stated], **options: Any) -> ScoreResponse:
        """Scores and ranks of whole facts."""
        return self._run(calls.score(facts, options))

    def rank_relations(self, head: str, tail: str, **options: Any) -> RankRelationsResponse:
        """Relations that fit best between two entities."""
        return self._run(calls.rank_relations(head, tail, options))

    def entities(self, search: str = "") -> Iterator[EntityOut]:
        """All entities whose label or key holds a text, page after page."""
        offset: int | None = 0
        while offset is not None:
            page = self._run(calls.entities(search, PAGE, offset))
            yield from page.entities
            offset = page.next_offset

    def entity(self, key: str) -> EntityDetailsOut:
        """Description, degree and modalities of an entity."""
        return self._run(calls.entity(key))

    def neighbors(self, key: str, **options: str | int) -> NeighborsOut:
        """One page of the facts around an entity."""
        return self._run(calls.neighbors(key, options))

    def picture(self, key: str) -> bytes:
        """The picture of an entity."""
        return self._run(calls.picture(key))

    def relations(self) -> RelationsOut:
        """All relations."""
        return self._run(calls.relations())

    def model(self) -> ModelOut:
        """The model being served."""
        return self._run(calls.model())

    def is_ready(self) -> bool:
        """Whether the server answers queries now; one attempt."""
        try:
            response = self._http.get("readyz", timeout=self._deadline_s)
        except httpx.TransportError:
            return False
        return response.is_success

    def reload(self) -> ModelRef:
        """Serve the bundle at the server's path now; an admin key may."""
        return self._run(calls.administer("reload"))

    def rollback(self) -> ModelRef:
        """Serve the bundle before; an admin key may."""
        return self._run(calls.administer("rollback"))

    def _run(self, call: Call[AnswerT]) -> AnswerT:
        attempts = Attempts(call, self._deadline_s)
        while True:
            try:
                status, body = self._send(attempts)
            except httpx.TransportError as error:
                wait_s = attempts.lost(error)
            else:
                if status == httpx.codes.OK:
                    return call.read(body)
                wait_s = attempts.refused(status, body)
            sleep(wait_s)

    def _send(self, attempts: Attempts) -> tuple[int, bytes]:
        """Status and body, piece by piece: httpx's time is that of each piece."""
        response, body = self._http.send(attempts.request(self._http), stream=True), bytearray()
        try:
            for piece in response.iter_bytes():
                body += piece
                if attempts.is_over:
                    raise attempts.late()
        finally:
            response.close()
        return response.status_code, bytes(body)
