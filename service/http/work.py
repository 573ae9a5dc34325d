"""Work: one request's use of the scorer, in one turn or several, all within its time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import ParamSpec, TypeVar

from starlette.requests import Request

from momok.service.batching.batcher import Score
from momok.service.batching.job import Scored
from momok.service.contract.errors import ClientDeadline, DeadlineExceeded, InvalidRequest
from momok.service.contract.schemas import Request as Asked
from momok.service.http import scoring
from momok.service.http.context import context_of
from momok.service.http.exchange import exchange_of
from momok.service.http.parsing import check_no_query, parsed, timeout_of

ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")
AskedT = TypeVar("AskedT", bound=Asked)
QueryT = TypeVar("QueryT")
AnswerT = TypeVar("AnswerT")


class Work:
    """What a POST route needs: ``served`` is the app, ``exchange`` the request as the layers know it.

    Raises ``InvalidRequest`` for a query string, or a header that is no time.
    """

    def __init__(self, request: Request) -> None:
        self.served, self.exchange = context_of(request.app), exchange_of(request.scope)
        self._receive = request.receive
        self._headers = dict(request.scope["headers"])
        check_no_query(request.scope["query_string"])
        allowed_s, most_s = timeout_of(self._headers), self.served.settings.timeout_s
        self._is_client_s = allowed_s is not None and allowed_s < most_s
        self._timeout_s = allowed_s if allowed_s is not None and self._is_client_s else most_s
        # From now on: the time in which its body came was limited by itself.
        self._deadline = perf_counter() + self._timeout_s

    @property
    def left_s(self) -> float:
        return self._deadline - perf_counter()

    def parsed(self, kind: type[AskedT]) -> AskedT:
        """The request in the body. Raises ``InvalidRequest``."""
        return parsed(kind, self._headers, self.exchange.body)

    def admit(self, num_queries: int, turn: int | None = None) -> None:
        """Raises ``RateLimited``, ``QueueFull`` where ``turn`` queries (all of them where None) find no room.

        The gate has taken the first token of the client.
        """
        self.exchange.queries = num_queries
        self.served.limiter.admit(self.exchange.caller, num_queries, held=1)
        room = num_queries if turn is None else turn
        scoring.check_room(self.served.scorer, room, self.left_s)

    async def looked_up(
        self, call: Callable[ParametersT, ResultT], *args: ParametersT.args, **kwargs: ParametersT.kwargs
    ) -> ResultT:
        """The result of a call with names, beside the event loop; unknown names are counted."""
        try:
            return await self.served.lookups.run(self.left_s, call, *args, **kwargs)
        except InvalidRequest as error:
            self.served.metrics.unknown_names.inc(error.count)
            raise
        except DeadlineExceeded as error:
            raise self._late(error) from None

    async def score(
        self, function: Score[QueryT, AnswerT], queries: Sequence[QueryT], size: int | None = None
    ) -> Scored[AnswerT]:
        """One turn. Raises as ``scoring.score``, and ``ClientDeadline`` for a time that the client set."""
        try:
            return await scoring.score(
                self.served.scorer, self._receive, function, queries, self.left_s, size
            )
        except DeadlineExceeded as error:
            raise self._late(error) from None

    def _late(self, error: DeadlineExceeded) -> DeadlineExceeded | ClientDeadline:
        if not self._is_client_s:
            return error
        return ClientDeadline(f"not answered within the {self._timeout_s:g} s that the request allows")
