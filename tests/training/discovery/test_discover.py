"""Discovered facts are the true best unknown ones, however the work was cut or interrupted."""

from __future__ import annotations

import csv
import json
import resource
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from momok.model.answer import Answer, Answers, Query
from momok.model.bundle.bundle import Bundle
from momok.model.bundle.names import Names, UnknownName
from momok.model.errors import describe
from momok.model.explanation import DECIMALS, Explanation, Explanations, explanation_out
from momok.model.networks.relation_cache import RelationCache
from momok.model.retrieval.ranking import Rankings
from momok.model.scorer import Scorer
from momok.training.discovery import discover as discovery
from momok.training.discovery import output as discovery_file
from momok.training.discovery import work as discovery_work
from momok.training.discovery.discover import discover, summary_line
from momok.training.discovery.lines import COLUMNS, Facts, Lines, compact
from momok.training.discovery.output import DiscoveryError, DiscoveryFile
from momok.training.discovery.work import DiscoveryOptions, Work
from momok.training.export.export import export_run
from momok.training.fit.recipe import Recipe
from tests.training.builders import CPU, NUM_ENTITIES, make_dataset, make_recipe, start

Row = dict[str, Any]
Scores = list[list[list[float]]]

KEYS = ["club", "colour"]
KNOWN = {tuple(fact) for facts in make_dataset().facts.values() for fact in facts.tolist()}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    bundle = bundle_of(tmp_path_factory.mktemp("run"), make_recipe(max_epochs=4))
    yield bundle
    bundle.vocabulary.close()


def bundle_of(folder: Path, recipe: Recipe) -> Bundle:
    trainer = start(folder, recipe)
    trainer.train()
    export_run(trainer.run, folder / "bundle", dataset=trainer.run.dataset(), device=CPU)
    return Bundle.open(folder / "bundle")


@pytest.fixture(scope="module")
def plain_scores(bundle: Bundle) -> Scores:
    """The score of every entity as the answer of every query, by relation in [0, 2R) and entity."""
    entity_B, model = torch.arange(NUM_ENTITIES), bundle.model
    with torch.inference_mode():
        encodings = [model.encode(entity_B, torch.full_like(entity_B, relation)) for relation in range(4)]
        return [model.score(encoding.query, model.entity_table()).tolist() for encoding in encodings]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of the small graph, each recorded as soon as it is complete."""
    monkeypatch.setattr(discovery_work, "QUERIES_AT_ONCE", 5)
    monkeypatch.setattr(discovery_work, "PREPARED_AT_ONCE", 3)
    monkeypatch.setattr(discovery_file, "RECORD_EVERY_S", 0.0)


def found(bundle: Bundle, folder: Path, **fields: Any) -> list[Row]:
    """The records of an uninterrupted run."""
    path = folder / f"{len(list(folder.iterdir()))}.jsonl"
    assert discover(bundle, DiscoveryOptions(**fields), DiscoveryFile(path)) is not None
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def fact_of(row: Row) -> tuple[int, int, int]:
    return int(row["head"][1:]), KEYS.index(row["relation"]), int(row["tail"][1:])


def asked_of(row: Row) -> tuple[str, str, str]:
    return row["relation"], row["missing"], row["head" if row["missing"] == "tail" else "tail"]


def assert_alike(rows: list[Row], expected: list[Row]) -> None:
    """The same facts in the same order; numbers to the digits that do not depend on the batch."""
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        for name, value in row.items():
            if name == "expert_gates":
                for gates, others in zip(value.values(), other[name].values(), strict=True):
                    assert gates == (others and pytest.approx(others, abs=3e-6))
            else:
                text = value is None or isinstance(value, str | bool)
                assert value == (other[name] if text else pytest.approx(other[name], abs=3e-6)), name


def sorted_lines(rows: list[Row]) -> list[str]:
    return sorted(json.dumps(row) for row in rows)


def plain_discovery(
    plain_scores: Scores, k: int, *, entities: str = "observed", candidates: str = "all"
) -> dict[tuple[str, str, str], list[float]]:
    """The scores that each query should find, by loops over facts and entities."""
    expected = {}
    for relation, key in enumerate(KEYS):
        for missing, given_end, asked_end in (("tail", 0, 2), ("head", 2, 0)):
            observed = {fact[given_end] for fact in KNOWN if fact[1] == relation}
            offered = {fact[asked_end] for fact in KNOWN if fact[1] == relation}
            for entity in observed if entities == "observed" else range(NUM_ENTITIES):
                scores = plain_scores[relation + 2 * (missing == "head")][entity]
                kept = []
                for other in offered if candidates == "observed" else range(NUM_ENTITIES):
                    head, tail = (entity, other) if missing == "tail" else (other, entity)
                    if (head, relation, tail) not in KNOWN:
                        kept.append(scores[other])
                if kept:
                    expected[key, missing, f"e{entity}"] = sorted(kept, reverse=True)[:k]
    return expected


@pytest.mark.parametrize("entities", ["observed", "all"])
@pytest.mark.parametrize("candidates", ["observed", "all"])
@pytest.mark.parametrize("k", [1, 3, 100])
def test_every_query_finds_its_true_best_unknown_facts(
    bundle: Bundle,
    plain_scores: Scores,
    tmp_path: Path,
    k: int,
    candidates: str,
    entities: str,
) -> None:
    rows = found(bundle, tmp_path, k=k, candidates=candidates, entities=entities)
    expected = plain_discovery(plain_scores, k, entities=entities, candidates=candidates)
    by_query: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        assert fact_of(row) not in KNOWN
        assert row["exact"] is True
        by_query.setdefault(asked_of(row), []).append(row)
    assert by_query.keys() == expected.keys()
    for query, offers in by_query.items():
        assert [row["rank"] for row in offers] == list(range(1, len(offers) + 1))
        assert len({fact_of(row) for row in offers}) == len(offers)
        assert [row["score"] for row in offers] == pytest.approx(expected[query], rel=1e-4, abs=1e-4)
        for row in offers:
            head, relation, tail = fact_of(row)
            asked = (head, relation, tail) if row["missing"] == "tail" else (tail, relation + 2, head)
            score = plain_scores[asked[1]][asked[0]][asked[2]]
            assert row["score"] == pytest.approx(score, rel=1e-4, abs=1e-4)


def test_the_same_fact_stands_there_once_for_each_end(bundle: Bundle, tmp_path: Path) -> None:
    rows = found(bundle, tmp_path, k=100)
    ends: dict[tuple[int, int, int], list[str]] = {}
    for row in rows:
        ends.setdefault(fact_of(row), []).append(row["missing"])
    twice = [missing for missing in ends.values() if len(missing) == 2]
    assert twice
    assert all(sorted(missing) == ["head", "tail"] for missing in twice)


@pytest.mark.parametrize("missing", ["tail", "head"])
def test_only_what_is_chosen_is_asked(bundle: Bundle, tmp_path: Path, missing: str) -> None:
    everything = found(bundle, tmp_path)
    for names in (["colour"], ["wears"], ["wears", "colour"]):
        rows = found(bundle, tmp_path, relations=names, missing=missing)
        assert_alike(rows, [r for r in everything if r["relation"] == "colour" and r["missing"] == missing])
    assert found(bundle, tmp_path, relations=["colour", "club"]) == everything


def test_a_limit_keeps_the_best_of_each_relation_and_end(bundle: Bundle, tmp_path: Path) -> None:
    everything = found(bundle, tmp_path, k=4)
    rows = found(bundle, tmp_path, k=4, limit=7)
    expected = []
    for relation in KEYS:
        for missing in ("tail", "head"):
            of_both = [r for r in everything if (r["relation"], r["missing"]) == (relation, missing)]
            expected += sorted(of_both, key=lambda row: -row["score"])[:7]
    assert_alike(rows, expected)


def test_a_least_score_cuts_every_list(bundle: Bundle, tmp_path: Path) -> None:
    everything = found(bundle, tmp_path)
    least = float(np.median([row["score"] for row in everything]))
    rows = found(bundle, tmp_path, min_score=least)
    assert rows == [row for row in everything if row["score"] >= least]
    assert 0 < len(rows) < len(everything)
    limited = found(bundle, tmp_path, min_score=least, limit=3)
    assert all(row["score"] >= least for row in limited)


def test_a_record_says_what_the_scorer_said(bundle: Bundle, tmp_path: Path) -> None:
    scorer = Scorer(bundle.model, bundle.candidates, bundle.known)
    labels = {"club": "member of", "colour": "wears"}
    absent = set()
    for row in found(bundle, tmp_path, k=2):
        assert tuple(row) == COLUMNS
        relation, missing, key = asked_of(row)
        asked = KEYS.index(relation) + 2 * (missing == "head")
        (answer,) = scorer.answer([Query(int(key[1:]), asked, 2)])
        weights = dict(zip(bundle.model.modality_names, answer.modality_weights.tolist(), strict=True))
        assert row["modality_weights"] == pytest.approx(weights, abs=2e-6)
        assert row["relation_temperature"] == pytest.approx(answer.relation_temperature, abs=2e-6)
        for name, gates in answer.expert_gates.items():
            if gates is None:
                absent.add(name)
                assert row["expert_gates"][name] is None
            else:
                assert row["expert_gates"][name] == pytest.approx(gates.tolist(), abs=2e-6)
        assert (row["head_label"], row["relation_label"], row["tail_label"]) == (
            "Entity", labels[relation], "Entity",
        )  # fmt: skip
    assert absent == {"text", "numeric"}


def rows_of_answers(answers: list[Answer], num_relations: int, names: tuple[str, ...]) -> list[Row]:
    """What should be written of each candidate, one after the other."""
    labels, rows = ["member of", "wears"], []
    for answer in answers:
        relation, asks_head = answer.query.relation % num_relations, answer.query.relation >= num_relations
        heat = answer.relation_temperature
        told = None if heat is None else round(heat, DECIMALS)
        trusted = explanation_out(names, Explanation(answer.modality_weights, answer.expert_gates, told))
        for rank, entity in enumerate(answer.ranking.entities.tolist(), start=1):
            ends = (entity, answer.query.entity) if asks_head else (answer.query.entity, entity)
            rows.append(
                {"head": f"e{ends[0]}", "relation": KEYS[relation], "tail": f"e{ends[1]}"}
                | {"head_label": "Entity", "relation_label": labels[relation], "tail_label": "Entity"}
                | {"missing": "head" if asks_head else "tail", "rank": rank}
                | {"score": float(answer.ranking.scores[rank - 1]), "exact": answer.ranking.exact, **trusted}
            )
    return rows


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv"])
@pytest.mark.parametrize("model", ["momok", "adamf"])
def test_every_digit_is_written_that_the_scorer_gave(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, suffix: str
) -> None:
    if model == "adamf":  # Without gates and temperatures.
        bundle = bundle_of(tmp_path, make_recipe(max_epochs=1).changed({"model": model, "network.dim": 3}))
    answers: dict[tuple[int, int], Answer] = {}
    answer = Scorer.answer

    def heard(scorer: Scorer, queries: list[Query], together: list[int]) -> Answers:
        given = answer(scorer, queries, together)
        answers.update({(query.entity, query.relation): a for query, a in zip(queries, given, strict=True)})
        return given

    monkeypatch.setattr(Scorer, "answer", heard)
    path = tmp_path / f"facts{suffix}"
    run(bundle, path, k=3)
    asked_Q2 = np.concatenate(list(Work(bundle, DiscoveryOptions()).pieces()))
    in_order = [answers[entity, relation] for entity, relation in asked_Q2.tolist()]
    expected = rows_of_answers(in_order, 2, bundle.model.modality_names)
    assert expected
    lines = path.read_text(encoding="utf-8").splitlines()
    if suffix == ".jsonl":
        assert [list(json.loads(line).items()) for line in lines] == [list(row.items()) for row in expected]
        return
    assert lines == ["\t".join(COLUMNS)] + [
        "\t".join("" if v is None else v if isinstance(v, str) else compact(v) for v in row.values())
        for row in expected
    ]


def test_names_are_written_as_they_are(bundle: Bundle, tmp_path: Path) -> None:
    odd = [f'%b {{}} "quoted" \\ 東京 é {entity}' for entity in range(NUM_ENTITIES)]
    vocabulary = SimpleNamespace(
        entities=Names("entity", odd, odd[::-1]), relations=Names("relation", odd[:2], odd[2:4])
    )
    named = cast(Bundle, SimpleNamespace(model=bundle.model, vocabulary=vocabulary))
    scorer = Scorer(bundle.model, bundle.candidates, bundle.known)
    facts = Facts.of(scorer.answer([Query(4, 1, 2), Query(5, 2, 2)]))
    ends = [(4, facts.entities[0]), (4, facts.entities[1]), (facts.entities[2], 5), (facts.entities[3], 5)]
    written = Lines(named, "jsonl").render(facts).decode().splitlines()
    table = Lines(named, "tsv").render(facts).decode().splitlines()
    for line, cells, (head, tail), relation in zip(written, table, ends, (1, 1, 0, 0), strict=True):
        expected = [odd[head], odd[relation], odd[tail]]
        expected += [odd[::-1][head], odd[2 + relation], odd[::-1][tail]]
        assert list(json.loads(line).values())[:6] == cells.split("\t")[:6] == expected
        assert "東京" in line


def answers_of(query: Query, scores: np.ndarray, weights: np.ndarray) -> Answers:
    """The same query and the same scores for each weight of the only modality, which has no gates."""
    times, all_scores = len(weights), np.tile(scores, len(weights))
    bounds = np.arange(0, len(all_scores) + 1, len(scores)).tolist()
    entities = np.tile(np.arange(len(scores)), times)
    rankings = Rankings(bounds, entities, all_scores, all_scores[:, None], [True] * times, ["scan"] * times)
    trusts = Explanations(weights[:, None], {}, {"structure": [True] * times}, None)
    return Answers([query] * times, rankings, trusts, [0] * times, {})


def test_numbers_are_rounded_as_one_by_one() -> None:
    random = np.random.default_rng(3)
    numbers = np.concatenate([random.random(5000), 10.0 ** random.uniform(-12, 0, 5000), [0, 1]])
    halfway = np.arange(64) / 64 * 1e-4  # As near as float32 comes.
    values = np.concatenate([numbers, halfway, np.arange(128) / 128]).astype(np.float32)
    answers = answers_of(Query(0, 0, 1), np.ones(1), values)
    model = SimpleNamespace(
        config=SimpleNamespace(num_relations=1), modality_names=("structure",), gated_modalities=()
    )
    names = Names("entity", ["a"], ["A"])
    bundle = cast(
        Bundle, SimpleNamespace(model=model, vocabulary=SimpleNamespace(entities=names, relations=names))
    )
    written = Lines(bundle, "jsonl").render(Facts.of(answers)).splitlines()
    assert [json.loads(line)["modality_weights"]["structure"] for line in written] == [
        round(value, DECIMALS) for value in values.tolist()
    ]


def test_a_table_holds_the_same(bundle: Bundle, tmp_path: Path) -> None:
    rows = found(bundle, tmp_path, k=3)
    discover(bundle, DiscoveryOptions(k=3), DiscoveryFile(tmp_path / "facts.tsv"))
    with (tmp_path / "facts.tsv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    texts = ("head", "relation", "tail", "head_label", "relation_label", "tail_label", "missing")
    for given, row in zip(table, rows, strict=True):
        read = {name: text if name in texts else json.loads(text) for name, text in given.items()}
        assert read == row


def test_parquet_holds_the_same(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    monkeypatch.setattr(discovery_file, "ROWS_AT_ONCE", 50)
    rows = found(bundle, tmp_path)
    run(bundle, tmp_path / "facts.parquet", stop=after(3))
    assert run(bundle, tmp_path / "facts.parquet", resume=True)
    assert parquet.read_table(tmp_path / "facts.parquet").to_pylist() == rows
    assert [path.name for path in tmp_path.glob("facts*")] == ["facts.parquet"]


# Shards


@pytest.mark.parametrize("missing", ["both", "head"])
def test_pieces_go_on_over_relations(bundle: Bundle, missing: str) -> None:
    work = Work(bundle, DiscoveryOptions.model_validate({"missing": missing}))
    pieces = list(work.pieces())
    short = [place for place, piece in enumerate(pieces) if len(piece) != 5]
    asked_together = [set(piece[:, 1].tolist()) for piece in pieces]
    # Only where the relations that are prepared together end.
    assert all(place == len(pieces) - 1 or 3 in asked_together[place + 1] for place in short)
    assert any(len(relations) > 1 for relations in asked_together)
    assert not any({1, 3} <= relations or {0, 3} <= relations for relations in asked_together)
    assert [piece.tolist() for piece in work.pieces(2)] == [piece.tolist() for piece in pieces[2:]]
    asked = np.concatenate(pieces).tolist()
    expected = []
    for relation in (0, 2, 1, 3) if missing == "both" else (2, 3):
        end = 0 if relation < 2 else 2
        expected += [[e, relation] for e in sorted({f[end] for f in KNOWN if f[1] == relation % 2})]
    assert asked == expected
    assert work.num_queries == len(expected)


@pytest.mark.parametrize("shard", ["1/1", "2/3", "8/40"])
def test_the_same_relations_are_folded_together_in_every_shard(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: str
) -> None:
    prepared: list[list[int]] = []
    prepare = RelationCache._prepare

    def seen(kept: RelationCache, relations: list[int], *deadline: float) -> Any:
        prepared.extend([relations] if relations else [])
        return prepare(kept, relations, *deadline)

    monkeypatch.setattr(RelationCache, "_prepare", seen)
    found(bundle, tmp_path, shard=shard)
    pieces = Work(bundle, DiscoveryOptions(shard=shard)).pieces()
    asked = set(np.concatenate(list(pieces))[:, 1].tolist())
    assert prepared == [group for group in ([0, 2, 1], [3]) if asked.intersection(group)]
    assert shard != "8/40" or asked != {0, 2, 1}, "some of those that are prepared are not asked"


def test_kept_facts_do_not_keep_the_lists_of_their_batch() -> None:
    scores = np.linspace(1, 0, 1000)
    answers = answers_of(Query(0, 0, 1000), scores, np.ones(1, np.float32))
    lists = [weakref.ref(rows) for rows in (answers.rankings.entities, answers.rankings.scores)]
    facts = Facts.of(answers)
    kept = (facts + facts).best(3)
    del answers, facts
    assert kept.entities.tolist() == [0, 0, 1]
    assert [held() for held in lists] == [None, None]
    assert kept.entities.base is None and kept.scores.base is None


@pytest.mark.parametrize("num_shards", [2, 3, 40])
@pytest.mark.parametrize("limit", [None, 4])
def test_shards_together_find_what_one_run_finds(
    bundle: Bundle, tmp_path: Path, num_shards: int, limit: int | None
) -> None:
    whole = found(bundle, tmp_path, limit=limit)
    parts = [
        found(bundle, tmp_path, limit=limit, shard=f"{index}/{num_shards}")
        for index in range(1, num_shards + 1)
    ]
    assert sorted_lines(whole) == sorted_lines([row for part in parts for row in part])
    queries = [{asked_of(row) for row in part} for part in parts]
    assert sum(map(len, queries)) == len(set().union(*queries))
    assert sum(bool(part) for part in parts) > 1


def test_a_shard_that_begins_with_other_relations_writes_the_lines_of_one_run(tmp_path: Path) -> None:
    """A relation of real width is prepared otherwise by one thread than by two, in its last bits, and who
    begins with it asks it before there are threads."""
    wide = {f"modalities.{name}.width": 256 for name in ("structure", "text", "numeric")}
    recipe = make_recipe(max_epochs=1).changed(wide | {"network.joint_width": 256})
    bundle, before = bundle_of(tmp_path, recipe), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        whole = found(bundle, tmp_path)
        number = len(list(Work(bundle, DiscoveryOptions()).pieces()))
        last = found(bundle, tmp_path, shard=f"{number}/{number}")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert last and last == whole[-len(last) :]


# Interruption


def after(num_batches: int) -> Callable[[], bool]:
    """A ``stop`` that is true from its ``num_batches + 1``-th question on; it is asked before each batch."""
    asked = count()
    return lambda: next(asked) >= num_batches


def run(bundle: Bundle, path: Path, *, resume: bool = False, stop: Any = None, **fields: Any) -> Row | None:
    output = DiscoveryFile(path, resume=resume)
    return discover(bundle, DiscoveryOptions(**fields), output, **({"stop": stop} if stop else {}))


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv"])
@pytest.mark.parametrize("limit", [None, 6])
@pytest.mark.parametrize("num_batches", [0, 1, 4, 9])
def test_a_resumed_run_ends_with_the_bytes_of_an_uninterrupted_one(
    bundle: Bundle, tmp_path: Path, num_batches: int, limit: int | None, suffix: str
) -> None:
    straight, broken = tmp_path / f"straight{suffix}", tmp_path / f"broken{suffix}"
    summary = run(bundle, straight, limit=limit)
    assert run(bundle, broken, limit=limit, stop=after(num_batches)) is None
    assert not broken.exists()
    assert run(bundle, broken, limit=limit, resume=True, stop=after(2)) is None
    resumed = run(bundle, broken, limit=limit, resume=True)
    assert broken.read_bytes() == straight.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [broken.name, straight.name]
    assert summary and resumed
    assert (resumed["facts"], resumed["queries"]) == (summary["facts"], summary["queries"])


@pytest.mark.parametrize("limit", [None, 6])
def test_as_many_threads_as_there_are_write_the_same_bytes(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    run(bundle, tmp_path / "one.jsonl", limit=limit)
    names: set[str] = set()
    monkeypatch.setattr(discovery, "MOST_THREADS", 5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 11)
    monkeypatch.setattr(
        torch, "set_num_threads", lambda num: names.add(f"{threading.current_thread().name} {num}")
    )
    run(bundle, tmp_path / "many.jsonl", limit=limit)
    assert (tmp_path / "many.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    assert {"MainThread 2", "MainThread 11"} < names, "set, and set back"
    assert {name.rpartition(" ")[2] for name in names if "Pool" in name} == {"2"}


def test_what_a_killed_run_wrote_beyond_its_record_is_cut_off(bundle: Bundle, tmp_path: Path) -> None:
    run(bundle, tmp_path / "straight.jsonl")
    broken = tmp_path / "broken.jsonl"
    run(bundle, broken, stop=after(3))
    with broken.with_name("broken.jsonl.partial").open("ab") as file:
        file.write(b'{"head": "half a li' * 100_000)
    run(bundle, broken, resume=True)
    assert broken.read_bytes() == (tmp_path / "straight.jsonl").read_bytes()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_any_end_leaves_what_can_be_resumed(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    run(bundle, tmp_path / "straight.jsonl")
    broken, answer = tmp_path / "broken.jsonl", Scorer.answer
    entity, relation = list(Work(bundle, DiscoveryOptions()).pieces())[4][0].tolist()

    def failing(scorer: Scorer, queries: list[Query], together: list[int]) -> Any:
        if (queries[0].entity, queries[0].relation) == (entity, relation):
            raise error
        return answer(scorer, queries, together)

    with monkeypatch.context() as patched:
        patched.setattr(discovery_file, "RECORD_EVERY_S", 1e9)
        patched.setattr(Scorer, "answer", failing)
        with pytest.raises(error):
            run(bundle, broken)
    assert json.loads(broken.with_name("broken.jsonl.progress.json").read_text())["pieces"] == 4
    run(bundle, broken, resume=True)
    assert broken.read_bytes() == (tmp_path / "straight.jsonl").read_bytes()


def test_a_run_that_ended_before_its_rename_is_resumed(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(DiscoveryFile, "finish", lambda *_: None)
        run(bundle, tmp_path / "facts.tsv", k=2)
    written = (tmp_path / "facts.tsv.partial").read_bytes()
    assert run(bundle, tmp_path / "facts.tsv", k=2, resume=True)
    assert (tmp_path / "facts.tsv").read_bytes() == written


# What is said


def test_the_cost_is_told_first_and_the_time_after_a_batch(bundle: Bundle, tmp_path: Path) -> None:
    told: list[str] = []
    output = DiscoveryFile(tmp_path / "facts.jsonl")
    options = DiscoveryOptions(entities="all", k=2)
    summary = discover(bundle, options, output, show=told.append)
    assert summary is not None
    assert told[0] == f"{4 * NUM_ENTITIES} queries; {NUM_ENTITIES} candidates for each"
    assert "queries/s at first; about" in told[1]
    assert len(told) == 2
    assert summary["queries"] == 4 * NUM_ENTITIES
    assert summary["facts"] == len((tmp_path / "facts.jsonl").read_text().splitlines())
    assert f"{summary['facts']} facts of {summary['queries']} queries, " in summary_line(summary)
    run(bundle, tmp_path / "shard.jsonl", shard="1/2", stop=after(1))
    told.clear()
    output = DiscoveryFile(tmp_path / "shard.jsonl", resume=True)
    options = DiscoveryOptions(shard="1/2")
    discover(bundle, options, output, show=told.append)
    assert "queries (shard 1/2), 5 of them asked already" in told[0]
    told.clear()
    options = DiscoveryOptions(candidates="observed")
    discover(bundle, options, DiscoveryFile(tmp_path / "few.jsonl"), show=told.append)
    assert "4 to 33 candidates" in told[0]


# What is refused


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"k": 0}, "k: Input should be greater than or equal to 1"),
        ({"limit": 0}, "limit: "),
        ({"min_score": float("nan")}, "min_score: "),
        ({"shard": "3/2"}, "3/2 is not one of 2 shards"),
        ({"shard": "0/2"}, "0/2 is not one of"),
        ({"shard": "half"}, "shard: "),
    ],
)
def test_options_out_of_range_are_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as told:
        DiscoveryOptions(**fields)
    assert words in describe(told.value)


def test_an_unknown_relation_is_refused_with_the_nearest_names(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown relation 'weers'; nearest: 'wears'"):
        run(bundle, tmp_path / "facts.jsonl", relations=["weers"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"k": 4}, "begun with k 10, now it is 4"),
        ({"limit": 3}, "begun with limit null, now it is 3"),
        ({"shard": "1/2"}, 'begun with shard "1/1", now it is "1/2"'),
        ({"relations": ["wears"]}, 'begun with relations null, now it is ["colour"]'),
    ],
)
def test_another_run_is_not_resumed(
    bundle: Bundle, tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    path = tmp_path / "facts.jsonl"
    run(bundle, path, stop=after(2))
    before = (tmp_path / "facts.jsonl.partial").read_bytes()
    with pytest.raises(DiscoveryError) as told:
        run(bundle, path, resume=True, **fields)
    assert words in str(told.value)
    assert "remove it and facts.jsonl.partial" in str(told.value)
    assert (tmp_path / "facts.jsonl.partial").read_bytes() == before


def test_what_an_older_version_began_is_not_resumed(bundle: Bundle, tmp_path: Path) -> None:
    """Its pieces held queries of one relation each."""
    path = tmp_path / "facts.jsonl"
    run(bundle, path, stop=after(2))
    record = tmp_path / "facts.jsonl.progress.json"
    record.write_text(record.read_text().replace("queries of a piece", "queries at once"))
    with pytest.raises(DiscoveryError, match="begun with queries of a piece null, now it is 5"):
        run(bundle, path, resume=True)


def test_another_bundle_is_not_resumed(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    run(bundle, path, stop=after(2))
    record = tmp_path / "facts.jsonl.progress.json"
    record.write_text(record.read_text().replace(bundle.manifest.version, "0123456789ab"))
    with pytest.raises(DiscoveryError, match='begun with bundle version "0123456789ab", now it is'):
        run(bundle, path, resume=True)


def test_a_damaged_or_lost_half_is_named(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    run(bundle, path, stop=after(2))
    partial, record = (tmp_path / f"facts.jsonl.{end}" for end in ("partial", "progress.json"))
    whole = partial.read_bytes()
    partial.write_bytes(whole[:-1])
    with pytest.raises(DiscoveryError, match=rf"partial: {len(whole) - 1} bytes, .* says {len(whole)}"):
        run(bundle, path, resume=True)
    partial.unlink()
    with pytest.raises(DiscoveryError, match=r"partial: 0 bytes"):
        run(bundle, path, resume=True)
    for text in ("{", "[]", '{"pieces": 3}', '{"identity": 3}', "\xff"):
        record.write_bytes(text.encode("latin-1"))
        with pytest.raises(DiscoveryError, match=r"progress\.json: damaged"):
            run(bundle, path, resume=True)


def test_a_place_that_is_taken_is_refused_untouched(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    with pytest.raises(DiscoveryError, match=r"nothing to resume here; leave --resume out"):
        run(bundle, path, resume=True)
    run(bundle, path, stop=after(1))
    with pytest.raises(DiscoveryError, match=r"of a run that did not end; --resume it"):
        run(bundle, path)
    run(bundle, path, resume=True)
    written = path.read_bytes()
    for resume in (False, True):
        with pytest.raises(DiscoveryError, match=r"facts\.jsonl: exists already"):
            run(bundle, path, resume=resume)
    assert path.read_bytes() == written


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("facts.csv", "unknown format; end the name in .jsonl, .tsv, .parquet"),
        ("facts", "unknown format"),
        ("no/facts.tsv", "no: no such directory"),
        ("facts.parquet", "pip install pyarrow"),
    ],
)
def test_a_place_that_cannot_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DiscoveryError) as told:
        DiscoveryFile(tmp_path / name)
    assert words in str(told.value)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_and_can_be_resumed(bundle: Bundle, tmp_path: Path) -> None:
    run(bundle, tmp_path / "straight.jsonl")
    whole, broken = (tmp_path / "straight.jsonl").read_bytes(), tmp_path / "broken.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) // 2, limits[1]))
    try:
        with pytest.raises(DiscoveryError, match=r"broken\.jsonl: cannot be written \(File too large"):
            run(bundle, broken)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert json.loads((tmp_path / "broken.jsonl.progress.json").read_text())["pieces"] > 3
    run(bundle, broken, resume=True)
    assert broken.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_said(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DiscoveryError, match=r"facts\.tsv: cannot be written \(Permission denied"):
        run(bundle, tmp_path / "facts.tsv")
