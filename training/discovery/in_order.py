"""in_order: calls in several threads, their results in the order of what they were made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def in_order(
    call: Callable[[ItemT], ResultT],
    items: Iterable[ItemT],
    num_threads: int,
    begin: Callable[[], object] = lambda: None,
) -> Generator[tuple[ItemT, ResultT]]:
    """Each item and ``call(item)``, from threads that call ``begin`` first; raises what a call raises.

    One call more than there are threads is under way or done before its turn. Closing the generator waits
    for those that have begun; the others are not made.
    """
    waiting: deque[tuple[ItemT, Future[ResultT]]] = deque()
    pool = ThreadPoolExecutor(num_threads, initializer=begin)
    try:
        for item in items:
            waiting.append((item, pool.submit(call, item)))
            if len(waiting) > num_threads:
                first, future = waiting.popleft()
                yield first, future.result()
        for item, future in waiting:
            yield item, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
