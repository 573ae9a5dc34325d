"""Answers as lines for people, for the command line."""

from __future__ import annotations

from collections.abc import Mapping

from momok.service.contract.schemas import AnswerOut, PredictResponse


def answer_lines(response: PredictResponse, limit: int | None = None) -> list[str]:
    """A question, its candidates and what was trusted, for each answer; ``limit`` candidates at the most."""
    return [line for answer in response.answers for line in _lines(answer, response.score_kind, limit)]


def _lines(answer: AnswerOut, score_kind: str, limit: int | None) -> list[str]:
    query = answer.query
    head = query.head.label if query.head else "?"
    tail = query.tail.label if query.tail else "?"
    lines = [f"{head} — {query.relation.label} — {tail}"]
    for offer in answer.candidates[:limit]:
        branches = _pairs(offer.branch_scores or {})
        known = f"  known from {offer.known}" if offer.known else ""
        lines.append(f"{offer.rank:4}  {offer.score:9.4f}  {offer.entity.label}{known}  ({branches})")
    if not answer.candidates:
        lines.append("      no candidate is left")
    proof = "provably the best" if answer.exact else "approximate"
    lines.append(f"  score: {score_kind}; {proof} ({answer.engine})")
    if answer.modality_weights:
        lines.append(f"  modalities trusted: {_pairs(answer.modality_weights)}")
    for name, gates in (answer.expert_gates or {}).items():
        shown = "absent" if gates is None else " ".join(f"{gate:.3f}" for gate in gates)
        lines.append(f"  experts of {name}: {shown}")
    return lines


def _pairs(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())
