"""A client of the service, for programs: ``pip install momok[client]``.

    with Client("http://127.0.0.1:8000", key="…") as client:
        answers = client.predict([{"head": "Norway", "relation": "borders"}], k=5).answers

Requests and answers are the schemas of the API. It loads neither torch nor FastAPI.
"""

from momok.client.errors import ClientError, DeadlineExceeded, ProblemError, Unreachable

try:
    from momok.client.asynchronous import AsyncClient
    from momok.client.synchronous import Client
except ModuleNotFoundError as error:
    if error.name != "httpx":
        raise
    raise ModuleNotFoundError("momok.client needs httpx: pip install 'momok[client]'", name="httpx") from None

__all__ = ["AsyncClient", "Client", "ClientError", "DeadlineExceeded", "ProblemError", "Unreachable"]
