"""AsyncClient: calls on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
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


class AsyncClient:
    """A client of one server, of one event loop. Close it, or use it in an ``async with``.

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
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._deadline_s = deadline_s
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=CONNECTIONS,
            verify=verify,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the pooled connections."""
        await self._http.aclose()

    async def predict(self, queries: Sequence[Asked], **options: Any) -> PredictResponse:
        """Candidates for the missing ends, as of ``{"head": "Norway", "relation": "borders"}``."""
        return await self._run(calls.predict(queries, options))

    async def score(self, facts: Sequence[Stated], **options: Any) -> ScoreResponse:
        """Scores and ranks of whole facts."""
        return await self._run(calls.score(facts, options))

    async def rank_relations(self, head: str, tail: str, **options: Any) -> RankRelationsResponse:
        """Relations that fit best between two entities."""
        return await self._run(calls.rank_relations(head, tail, options))

    async def entities(self, search: str = "") -> AsyncIterator[EntityOut]:
        """All entities whose label or key holds a text, page after page."""
        offset: int | None = 0
        while offset is not None:
            page = await self._run(calls.entities(search, PAGE, offset))
            for entity in page.entities:
                yield entity
            offset = page.next_offset

    async def entity(self, key: str) -> EntityDetailsOut:
        """Description, degree and modalities of an entity."""
        return await self._run(calls.entity(key))

    async def neighbors(self, key: str, **options: str | int) -> NeighborsOut:
        """One page of the facts around an entity."""
        return await self._run(calls.neighbors(key, options))

    async def picture(self, key: str) -> bytes:
        """The picture of an entity."""
        return await self._run(calls.picture(key))

    async def relations(self) -> RelationsOut:
        """All relations."""
        return await self._run(calls.relations())

    async def model(self) -> ModelOut:
        """The model being served."""
        return await self._run(calls.model())

    async def is_ready(self) -> bool:
        """Whether the server answers queries now; one attempt."""
        try:
            response = await self._http.get("readyz", timeout=self._deadline_s)
        except httpx.TransportError:
            return False
        return response.is_success

    async def reload(self) -> ModelRef:
        """Serve the bundle at the server's path now; an admin key may."""
        return await self._run(calls.administer("reload"))

    async def rollback(self) -> ModelRef:
        """Serve the bundle before; an admin key may."""
        return await self._run(calls.administer("rollback"))

    async def _run(self, call: Call[AnswerT]) -> AnswerT:
        attempts = Attempts(call, self._deadline_s)
        while True:
            try:
                async with asyncio.timeout(attempts.left_s):
                    response = await self._http.send(attempts.request(self._http))
            except TimeoutError as error:
                raise attempts.late() from error
            except httpx.TransportError as error:
                wait_s = attempts.lost(error)
            else:
                if response.is_success:
                    return call.read(response.content)
                wait_s = attempts.refused(response.status_code, response.content)
            await asyncio.sleep(wait_s)
