"""The server under load, beside what it stands on: a raw ASGI reply, and the scorer without a server.

    python benchmarks/serve.py [BUNDLE] [--queries 8] [--seconds 5] [--json]

Needs wrk, which saturates; latencies are of an open loop: requests leave at a fixed rate, whatever has been
answered, and are timed from when they should have left. Everything shares this machine's cores, the clients
too. ``online_over_offline``: saturated queries a second over those of the scorer alone, in the largest
batches that the server makes, with an ``Answer`` for each; ``offline_columns_queries_s``: without.
``p50_ms``: of a lone client that asks for one query, and for the next when it is answered;
``offline_single_ms``: the scorer's alone for that, with as many threads as the server gives it, and
``offline_single_all_ms`` with all; both without a pause. ``p50_seldom_ms``, ``offline_seldom_ms``: the same,
20 times a second, when all caches are cold. ``p99_over_unloaded`` at 70 % of saturation. At twice the
saturation: ``goodput_at_2x`` (answered in time, over saturation), ``reject_p99_ms``, and ``late_at_2x``
(neither answered in time nor told to come back). ``livez_p99_ms`` while saturated;
``livez_hostile_p99_ms`` while two clients send bodies of the full byte limit, one after the other, that are
refused. ``goodput_impatient``: of
250 clients that ask again at once when refused, over saturation. ``pykeen_single_ms``: one query by PyKEEN's
``predict_target`` (``peer.py``; with the extra ``bench``).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import torch
from load import lua, one_client, open_loop, percentile, wrk, wrk_command

from momok.model.bundle.bundle import Bundle, is_bundle, read_catalogue, read_manifest
from momok.model.bundle.catalogue import Catalogue
from momok.model.runtime.cpus import threads_beside_another
from momok.service.answering.answerer import Answerer
from momok.service.contract.schemas import PredictRequest
from momok.service.scorer.local import LocalScorer, ThreadScorer
from momok.service.settings import Settings

K = 10
BODIES, NULL_BODIES = 500, 50
IMPATIENT = 250
DEADLINE_S = 2.0
UNLOADED_RATE = 20.0
SETTLE_S = 1.0
"""A pause after saturation: the queue still holds requests whose clients have left."""
HOSTILE = b'{"queries":[%b{}]}' % (b"{}," * ((Settings.model_fields["max_body_bytes"].default - 100) // 3))
"""As large as a server takes by default, and wrong in each of its million parts."""
REFUSED = (429, 503)
"""The queue is full, or there are too many connections."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("build/demo/bundle"))
    parser.add_argument("--queries", type=int, default=8, help="queries in a request")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None or not is_bundle(arguments.bundle):
        sys.exit(f"needs wrk, and a bundle at {arguments.bundle}; `make demo` makes the one of the demo")
    else:
        result = measure(arguments.bundle, arguments.queries, arguments.seconds)
        print(json.dumps(result) if arguments.json else "\n".join(f"{k}: {v}" for k, v in result.items()))


def measure(bundle: Path, num_queries: int, seconds: float) -> dict[str, Any]:
    scorer = LocalScorer(Bundle.open(bundle), "auto")
    answerer = Answerer(read_catalogue(bundle), ThreadScorer(scorer))
    answerer.warm()
    bodies = questions(answerer.bundle, num_queries)
    single = questions(answerer.bundle, 1)[:NULL_BODIES]
    first = PredictRequest.model_validate_json(single[0])
    size = len(answerer.render(scorer.write(answerer.resolve(first))))
    requests = [PredictRequest.model_validate_json(body) for body in bodies]
    result: dict[str, Any] = {"queries_a_request": num_queries, "bytes_an_answer": size}
    queries = [question.query for request in requests for question in answerer.resolve(request)]
    largest = Settings.model_fields["max_batch"].default
    offline = offline_rate(scorer, queries, largest, seconds)
    result["offline_queries_s"] = offline
    result["offline_columns_queries_s"] = offline_rate(scorer, queries, largest, seconds, each=False)
    result["offline_single_all_ms"] = 1e3 / offline_rate(scorer, queries, 1, seconds)
    torch.set_num_threads(threads_beside_another())
    result["offline_single_ms"] = 1e3 / offline_rate(scorer, queries, 1, seconds)
    result["offline_seldom_ms"] = 1e3 / offline_rate(scorer, queries, 1, 3 * seconds, 1 / UNLOADED_RATE)
    del answerer, scorer
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(lua(bodies), encoding="utf-8")
        with started("-m", "momok", "serve", bundle, "--port", 0, "--device", "cpu", *QUIET) as (url, _):
            result |= of_server(url, script, bodies, num_queries, seconds)
            result |= of_lone_client(url, single, seconds)
        result["online_over_offline"] = result["online_queries_s"] / offline
    return result | of_peer(bundle, seconds)


def of_peer(bundle: Path, seconds: float) -> dict[str, Any]:
    """PyKEEN on a model of equal size, in a process of its own; nothing where it is not installed."""
    if find_spec("pykeen") is None:
        return {}
    manifest = read_manifest(bundle)
    width = sum(branch.width for branch in manifest.branches)
    command = [sys.executable, Path(__file__).with_name("peer.py"), "--json", "--width", width]
    command += ["--entities", manifest.counts["entities"], "--relations", manifest.counts["relations"]]
    command += ["--seconds", seconds]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


QUIET = ("--log-level", "warning", "--timeout-s", DEADLINE_S)


def of_server(
    url: str, script: Path, bodies: Sequence[bytes], num_queries: int, seconds: float
) -> dict[str, Any]:
    wrk(f"{url}/v1/predict", script, min(seconds, 3))  # What is asked first is folded and cached.
    sleep(SETTLE_S)
    unloaded = open_loop(url, bodies, UNLOADED_RATE, 3 * seconds)
    saturated = wrk(f"{url}/v1/predict", script, seconds)
    sleep(SETTLE_S)
    loaded = open_loop(url, bodies, 0.7 * saturated, seconds)
    flood = open_loop(url, bodies, 2 * saturated, seconds)
    with subprocess.Popen(wrk_command(f"{url}/v1/predict", script, seconds + 1), stdout=subprocess.PIPE):
        alive = open_loop(url, None, 20, seconds)
    sleep(SETTLE_S)
    hostile = script.with_name("hostile.lua")
    hostile.write_text(lua([HOSTILE]), encoding="utf-8")
    with subprocess.Popen(wrk_command(f"{url}/v1/predict", hostile, seconds + 1, 2), stdout=subprocess.PIPE):
        attacked = open_loop(url, None, 20, seconds)
    sleep(SETTLE_S)
    impatient = wrk(f"{url}/v1/predict", script, seconds, IMPATIENT)
    answered = [reply.seconds for reply in flood if reply.status == 200]
    refused = [reply.seconds for reply in flood if reply.status in REFUSED]
    late = [reply for reply in flood if reply.status not in (200, *REFUSED)]
    in_time = sum(taken_s <= DEADLINE_S for taken_s in answered)
    return {
        "online_queries_s": saturated * num_queries,
        "p99_unloaded_ms": percentile(unloaded, 99),
        "p99_at_70_ms": percentile(loaded, 99),
        "p99_over_unloaded": percentile(loaded, 99) / percentile(unloaded, 99),
        "goodput_at_2x": in_time / seconds / saturated,
        "reject_p99_ms": 1e3 * float(np.percentile(refused, 99)) if refused else None,
        "statuses_at_2x": dict(Counter(reply.status for reply in flood)),
        "late_at_2x": len(late) + len(answered) - in_time,
        "livez_p99_ms": percentile(alive, 99),
        "livez_hostile_p99_ms": percentile(attacked, 99),
        "goodput_impatient": impatient / saturated,
    }


def of_lone_client(url: str, bodies: Sequence[bytes], seconds: float) -> dict[str, Any]:
    one_client(url, bodies, min(seconds, 3))
    return {
        "p50_ms": percentile(one_client(url, bodies, seconds), 50),
        "p50_seldom_ms": percentile(open_loop(url, bodies, UNLOADED_RATE, 3 * seconds), 50),
    }


def questions(catalogue: Catalogue, num_queries: int) -> list[bytes]:
    """Bodies that ask what the graph knows of, drawn at random."""
    known, vocabulary = catalogue.known, catalogue.vocabulary
    keys, relations = vocabulary.entities.keys, vocabulary.relations.keys
    random = np.random.default_rng(0)
    bodies = []
    for _ in range(BODIES):
        relation_B, entity_B = np.divmod(random.choice(known.queries, num_queries), known.num_entities)
        asked = [
            {"head": keys[entity], "relation": relations[relation]}
            if relation < len(relations)
            else {"relation": relations[relation - len(relations)], "tail": keys[entity]}
            for relation, entity in zip(relation_B.tolist(), entity_B.tolist(), strict=True)
        ]
        bodies.append(json.dumps({"queries": asked, "k": K}).encode())
    return bodies


def offline_rate(
    scorer: LocalScorer,
    queries: Sequence[Any],
    size: int,
    seconds: float,
    idle_s: float = 0.0,
    each: bool = True,
) -> float:
    """Queries a second in batches of one size, not counting ``idle_s`` before each: of the median batch.
    ``each``: with an ``Answer`` for each."""
    times: list[float] = []
    start, end = 0, perf_counter() + seconds
    while perf_counter() < end or len(times) < 5:
        sleep(idle_s)
        batch = [queries[(start + place) % len(queries)] for place in range(size)]
        start += size
        began = perf_counter()
        answers = scorer.answer(batch)
        if each:
            list(answers)
        times.append(perf_counter() - began)
    return size / statistics.median(times)


@contextmanager
def started(*command: object, within: Sequence[str] = ()) -> Iterator[tuple[str, int]]:
    """A server process: the address that it prints, and its number. ``within``: words before the command."""
    words = [*within, sys.executable, *map(str, command)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://[^\s;]+", line)
        assert found, f"{command} did not start: {line!r}"
        yield found[0], process.pid
    finally:
        process.terminate()
        process.wait(60)


if __name__ == "__main__":
    main()
