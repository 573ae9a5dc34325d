"""What every registered model must be: the contract behind which the rest of the house stands.

A new model joins by writing its oracle: the scores of facts by its formula, in loops over plain numbers.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from momok.model.networks.base import MODELS, Candidates, Encoding, LinkPredictor, build_model, parse_config
from momok.model.networks.modality import ModalityInput
from momok.model.networks.relation_cache import RelationCache
from momok.model.scores import Decision

Row = list[float]

TOLERANCE = 1e-5


class Oracle(Protocol):
    def scores(self, entity: int, relation: int, candidates: Sequence[int]) -> list[Row]:
        """Branch scores of one query, in the order of the model's branches."""


class MoMoKOracle:
    """MoMoK by the formulas of arXiv 2405.16869, one query and one candidate at a time."""

    def __init__(self, model: LinkPredictor) -> None:
        self.state: dict[str, Any] = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
        self.modalities = range(len(model.modality_names))

    def scores(self, entity: int, relation: int, candidates: Sequence[int]) -> list[Row]:
        """Scores of each branch, the joint one last."""
        temperature = logistic(self.state["temperature.weight"][relation][0])
        vectors = [self.state[f"relations.{modality}.weight"][relation] for modality in self.modalities]
        vectors.append(self.fused("relation_fusion", vectors, [True for _ in vectors]))
        inputs = self.views(entity, temperature)
        query = [self.tucker(branch, *pair) for branch, pair in enumerate(zip(inputs, vectors, strict=True))]
        answers = [self.views(candidate, 1.0) for candidate in candidates]
        return [[dot(row, answer[branch]) for answer in answers] for branch, row in enumerate(query)]

    def views(self, entity: int, temperature: float) -> list[Row]:
        """The entity in each modality, and fused."""
        rows = [self.mixed(modality, entity, temperature) for modality in self.modalities]
        return [*rows, self.fused("entity_fusion", rows, self.state["present"][entity])]

    def mixed(self, modality: int, entity: int, temperature: float) -> Row:
        raw = self.state[f"inputs.{modality}.weight"][entity]
        if f"reducers.{modality}.weight" in self.state:
            raw = times(self.state[f"reducers.{modality}.weight"], raw)
        bank = f"experts.{modality}"
        gate_KD = list(zip(*self.state[f"{bank}.gate"], strict=True))
        gates = softmax([dot(raw, gate) / temperature for gate in gate_KD])
        views = [
            times(weight, [value - shift for value, shift in zip(raw, bias, strict=True)])
            for weight, bias in zip(self.state[f"{bank}.weight"], self.state[f"{bank}.bias"], strict=True)
        ]
        return [dot(gates, column) for column in zip(*views, strict=True)]

    def fused(self, fusion: str, rows: list[Row], present: Sequence[bool]) -> Row:
        direction = self.state[f"{fusion}.attention.weight"][0]
        total = [0.0 for _ in direction]
        for attention in range(2):
            mapped = [
                self.mapped(f"{fusion}.maps.{attention}.{modality}", rows[modality])
                for modality in self.modalities
                if present[modality]
            ]
            weights = softmax([dot(direction, row) for row in mapped])
            for weight, row in zip(weights, mapped, strict=True):
                total = [sofar + weight * value for sofar, value in zip(total, row, strict=True)]
        return total

    def mapped(self, layer: str, row: Row) -> Row:
        shifted = zip(times(self.state[f"{layer}.weight"], row), self.state[f"{layer}.bias"], strict=True)
        return [max(0.0, value + bias) for value, bias in shifted]

    def tucker(self, branch: int, row: Row, vector: Row) -> Row:
        scorer = f"scorers.{branch}"
        row = self.normed(f"{scorer}.input_norm", row)
        output = [0.0 for _ in row]
        for strength, matrix in zip(vector, self.state[f"{scorer}.core"], strict=True):
            for value, line in zip(row, matrix, strict=True):
                for j, weight in enumerate(line):
                    output[j] += strength * weight * value
        return self.normed(f"{scorer}.output_norm", output)

    def normed(self, norm: str, row: Row) -> Row:
        parts = ("running_mean", "running_var", "weight", "bias")
        return [
            (value - mean) / math.sqrt(variance + 1e-5) * weight + bias
            for value, mean, variance, weight, bias in zip(
                row, *(self.state[f"{norm}.{part}"] for part in parts), strict=True
            )
        ]


class AdaMFOracle:
    """AdaMF by the formulas of arXiv 2402.15444, in complex numbers."""

    def __init__(self, model: LinkPredictor) -> None:
        self.state: dict[str, Any] = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
        self.modalities = range(len(model.modality_names))
        self.margin = model.config.model_dump()["margin"]
        self.dim = model.config.model_dump()["dim"]

    def scores(self, entity: int, relation: int, candidates: Sequence[int]) -> list[Row]:
        num_relations = len(self.state["relations.weight"])
        sign = 1 if relation < num_relations else -1
        angles = [
            sign * value * math.pi / ((self.margin + 2) / self.dim)
            for value in self.state["relations.weight"][relation % num_relations]
        ]
        query = [z * cmath.exp(1j * angle) for z, angle in zip(self.fused(entity), angles, strict=True)]
        return [
            [
                self.margin - sum(abs(q - t) for q, t in zip(query, self.fused(candidate), strict=True))
                for candidate in candidates
            ]
        ]

    def fused(self, entity: int) -> list[complex]:
        parts = [self.part(m, entity) for m in self.modalities if self.state["present"][entity][m]]
        direction = self.state["attention.weight"][0]
        weights = softmax([dot(direction, [math.tanh(value) for value in part]) for part in parts])
        whole = [dot(weights, column) for column in zip(*parts, strict=True)]
        return [complex(*pair) for pair in zip(whole[: self.dim], whole[self.dim :], strict=True)]

    def part(self, modality: int, entity: int) -> Row:
        raw: Row = self.state[f"inputs.{modality}.weight"][entity]
        if f"projections.{modality}.weight" not in self.state:
            return raw
        bias = self.state[f"projections.{modality}.bias"]
        projected = times(self.state[f"projections.{modality}.weight"], raw)
        return [value + shift for value, shift in zip(projected, bias, strict=True)]


class MoCMEOracle:
    """MoCME as docs/models.md reads it, in complex numbers."""

    def __init__(self, model: LinkPredictor) -> None:
        self.state: dict[str, Any] = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
        self.modalities = range(len(model.modality_names))
        self.config = model.config.model_dump()
        self.unit = (self.config["margin"] + 2) / self.config["dim"]

    def scores(self, entity: int, relation: int, candidates: Sequence[int]) -> list[Row]:
        phases = self.state["relations.weight"]
        sign = 1 if relation < len(phases) else -1
        turns = [
            cmath.exp(1j * sign * math.pi * value / self.unit) for value in phases[relation % len(phases)]
        ]
        query = [z * turn for z, turn in zip(self.joint(entity), turns, strict=True)]
        distances = [
            sum(abs(q - t) for q, t in zip(query, self.joint(candidate), strict=True))
            for candidate in candidates
        ]
        return [[self.config["margin"] - distance for distance in distances]]

    def joint(self, entity: int) -> list[complex]:
        having = [m for m in self.modalities if self.state["present"][entity][m]]
        rows = [self.modality(m, entity) for m in having]
        given = [self.state["modality_complementarity"][entity][m] for m in having]
        weights = softmax([value / self.config["temperature"] for value in given])
        whole = [dot(weights, column) * self.unit / 2 for column in zip(*rows, strict=True)]
        return list(map(complex, whole[: self.config["dim"]], whole[self.config["dim"] :]))

    def modality(self, modality: int, entity: int) -> Row:
        given = self.state["view_complementarity"][entity][modality]
        weights = softmax([value / self.config["temperature"] for value in given])
        views = [self.view(modality, entity, expert) for expert in range(self.config["num_experts"])]
        return [dot(weights, column) for column in zip(*views, strict=True)]

    def view(self, modality: int, entity: int, expert: int) -> Row:
        scale = self.state["input_scale"][modality]
        raw = [scale * value for value in self.state[f"inputs.{modality}.weight"][entity]]
        bank, width = f"banks.{modality}", self.config["hidden_width"]
        units = slice(expert * width, (expert + 1) * width)
        mapped = times(self.state[f"{bank}.hidden.weight"][units], raw)
        sums = [value + b for value, b in zip(mapped, self.state[f"{bank}.hidden.bias"][units], strict=True)]
        hidden = [value if value > 0 else 0.01 * value for value in sums]
        columns = zip(*self.state[f"{bank}.weight"][expert], strict=True)
        bias = self.state[f"{bank}.bias"][expert]
        return [dot(hidden, column) + shift for column, shift in zip(columns, bias, strict=True)]


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


def times(matrix: list[Row], vector: Row) -> Row:
    return [dot(line, vector) for line in matrix]


def softmax(logits: Row) -> Row:
    raised = [math.exp(logit - max(logits)) for logit in logits]
    return [value / sum(raised) for value in raised]


def logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))


ORACLES: dict[str, Callable[[LinkPredictor], Oracle]] = {
    "momok": MoMoKOracle,
    "adamf": AdaMFOracle,
    "mocme": MoCMEOracle,
}
DECISIONS: dict[str, tuple[Decision, ...]] = {"momok": ("sum", "mean_sigmoid")}
"""Of models that leave a choice; the others have one branch."""


@pytest.fixture(params=sorted(MODELS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[1, 2, 3, 5], ids=lambda number: f"{number}-modalities")
def model(
    name: str, request: pytest.FixtureRequest, make_model: Callable[..., LinkPredictor]
) -> LinkPredictor:
    return make_model(name, request.param)


def all_queries(model: LinkPredictor) -> tuple[Tensor, Tensor]:
    """Every entity with every relation, inverse ones too, relations mixed."""
    entities, relations = model.config.num_entities, 2 * model.config.num_relations
    return torch.arange(entities).repeat_interleave(relations), torch.arange(relations).repeat(entities)


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("num_modalities", [1, 2, 3, 5])
@pytest.mark.parametrize("choice", [0, 1])
@torch.inference_mode()
def test_factorised_scores_are_those_of_scoring_every_fact(
    name: str, num_modalities: int, choice: int, make_model: Callable[..., LinkPredictor]
) -> None:
    choices = DECISIONS.get(name, ("single",))
    decision = choices[choice % len(choices)]
    model = make_model(name, num_modalities, decision=decision)
    table = model.entity_table()
    entity_B, relation_B = all_queries(model)
    query = model.encode(entity_B, relation_B).query
    found = {branch.name: branch.scores(query[branch.name], table[branch.name]) for branch in model.branches}
    decided = model.score(query, table)
    oracle = ORACLES[name](model)
    for row in range(0, len(entity_B), 5):
        expected = oracle.scores(int(entity_B[row]), int(relation_B[row]), range(model.config.num_entities))
        for branch, scores in zip(model.branches, expected, strict=True):
            assert_close(found[branch.name][row], torch.tensor(scores))
        columns = zip(*expected, strict=True)
        if decision != "mean_sigmoid":
            assert_close(decided[row], torch.tensor([sum(column) for column in columns]))
        else:
            means = [sum(map(logistic, column)) / len(column) for column in columns]
            assert_close(decided[row], torch.tensor(means))


@torch.inference_mode()
def test_shapes_are_those_that_branches_and_configuration_say(model: LinkPredictor) -> None:
    config, (entity_B, relation_B) = model.config, all_queries(model)
    encoding, candidates = model.encode(entity_B, relation_B), model.candidates()
    for vectors, rows in ((encoding.query, len(entity_B)), (candidates.vectors, config.num_entities)):
        assert {branch: tuple(tensor.shape) for branch, tensor in vectors.items()} == {
            branch.name: (rows, branch.width) for branch in model.branches
        }
        assert all(tensor.dtype == torch.float32 for tensor in vectors.values())
    assert model.modality_names == tuple(shape.name for shape in config.modalities)
    assert tuple(encoding.expert_gates) == tuple(candidates.expert_gates) == model.gated_modalities
    assert encoding.modality_weights.shape == (len(entity_B), len(config.modalities))
    assert candidates.modality_weights.shape == (config.num_entities, len(config.modalities))


def rows_of(encoding: Encoding) -> dict[str, Tensor]:
    """Everything in an encoding that has a row a query, by a name."""
    rows = {f"query {name}": tensor for name, tensor in encoding.query.items()}
    rows |= {f"gates {name}": tensor for name, tensor in encoding.expert_gates.items()}
    rows["weights"] = encoding.modality_weights
    if encoding.relation_temperature is not None:
        rows["temperature"] = encoding.relation_temperature
    return rows


@torch.inference_mode()
def test_a_row_alone_is_the_same_row_in_a_batch(model: LinkPredictor) -> None:
    entity_B, relation_B = all_queries(model)
    together = rows_of(model.encode(entity_B, relation_B))
    for row in range(0, len(entity_B), 3):
        alone = rows_of(model.encode(entity_B[row : row + 1], relation_B[row : row + 1]))
        for part, tensor in alone.items():
            assert_close(tensor[0], together[part][row])


@torch.inference_mode()
def test_folded_relations_change_nothing(model: LinkPredictor) -> None:
    side = model.inference_encoder()
    encoder = model if side is None else RelationCache(side, budget_bytes=1 << 20)
    entity_B, relation_B = all_queries(model)
    expected = rows_of(model.encode(entity_B, relation_B))
    for _ in range(2):  # CachedRelation now, then kept.
        found = rows_of(encoder.encode(entity_B, relation_B))
        assert list(found) == list(expected)
        for part, tensor in found.items():
            assert tensor.dtype == torch.float32
            assert_close(tensor, expected[part])
            error_B = (tensor - expected[part]).reshape(len(entity_B), -1).norm(dim=1)
            assert (error_B <= TOLERANCE * expected[part].reshape(len(entity_B), -1).norm(dim=1)).all()
    for row in range(0, len(entity_B), 3):
        alone = rows_of(encoder.encode(entity_B[row : row + 1], relation_B[row : row + 1]))
        for part, tensor in alone.items():
            assert_close(tensor[0], expected[part][row])
    same = torch.zeros_like(relation_B)  # One relation, many entities.
    expected = rows_of(model.encode(entity_B, same))
    for part, tensor in rows_of(encoder.encode(entity_B, same)).items():
        assert_close(tensor, expected[part])


@torch.inference_mode()
def test_the_order_of_a_batch_does_not_matter(model: LinkPredictor) -> None:
    entity_B, relation_B = all_queries(model)
    order = torch.randperm(len(entity_B), generator=torch.Generator().manual_seed(1))
    straight = rows_of(model.encode(entity_B, relation_B))
    mixed = rows_of(model.encode(entity_B[order], relation_B[order]))
    for part, tensor in mixed.items():
        assert_close(tensor, straight[part][order])


@torch.inference_mode()
def test_saved_and_opened_it_is_the_same_to_the_bit(model: LinkPredictor, tmp_path: Path) -> None:
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    opened = build_model(parse_config(model.config.model_dump(mode="json"))).eval()
    opened.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert opened.config == model.config
    entity_B, relation_B = all_queries(model)
    expected, found = (rows_of(one.encode(entity_B, relation_B)) for one in (model, opened))
    assert all(torch.equal(found[part], tensor) for part, tensor in expected.items())
    expected_table, found_table = model.entity_table(), opened.entity_table()
    assert all(torch.equal(found_table[branch], rows) for branch, rows in expected_table.items())


def test_every_parameter_gets_a_gradient(model: LinkPredictor) -> None:
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(2)
        scores = model.score(model.encode(*all_queries(model)).query, model.entity_table())
        torch.autograd.backward((scores * torch.randn_like(scores)).sum())
    without = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    }
    if len(model.modality_names) == 1:  # Attention over one modality gives it 1, whatever its parameters.
        without = {name for name in without if not name.endswith("attention.weight")}
    assert not without


@torch.inference_mode()
def test_weights_and_gates_are_distributions(model: LinkPredictor) -> None:
    encoding, candidates = model.encode(*all_queries(model)), model.candidates()
    for distributions in (
        encoding.modality_weights,
        candidates.modality_weights,
        *encoding.expert_gates.values(),
        *candidates.expert_gates.values(),
    ):
        assert (distributions >= 0).all()
        assert_close(distributions.sum(dim=1), torch.ones(len(distributions)))


@torch.inference_mode()
def test_an_absent_modality_has_weight_0_and_leaves_everything_finite(model: LinkPredictor) -> None:
    entity_B, relation_B = all_queries(model)
    encoding, candidates = model.encode(entity_B, relation_B), model.candidates()
    assert len(model.modality_names) == 1 or not model.present.all()
    for weights, present in (
        (encoding.modality_weights, model.present[entity_B]),
        (candidates.modality_weights, model.present),
    ):
        assert not weights[~present].any()
        assert (weights[present] > 0).all()
    finite = [*rows_of(encoding).values(), *candidates.vectors.values(), *candidates.expert_gates.values()]
    assert all(tensor.isfinite().all() for tensor in finite)


@torch.inference_mode()
def test_the_input_of_an_absent_modality_reaches_its_own_branch_alone(
    name: str, make_model: Callable[..., LinkPredictor]
) -> None:
    model = make_model(name, 3)
    shapes, generator = model.config.modalities, torch.Generator().manual_seed(3)
    tables = [torch.randn(len(model.present), shape.input_width, generator=generator) for shape in shapes]
    entity, absent = (~model.present).nonzero()[0].tolist()

    def candidates() -> Candidates:
        model.load_inputs(
            [
                ModalityInput(table, shape.width, present.clone())
                for table, shape, present in zip(tables, shapes, model.present.T, strict=True)
            ]
        )
        return model.candidates()

    before = candidates()
    tables[absent][entity] += 3
    after = candidates()
    assert torch.equal(after.modality_weights, before.modality_weights)
    for branch, rows in after.vectors.items():
        assert torch.equal(rows, before.vectors[branch]) == (branch != model.modality_names[absent])


@torch.inference_mode()
def test_the_model_for_inference_answers_the_same_with_less(model: LinkPredictor) -> None:
    config = model.config.for_inference()
    lean = build_model(config).eval()
    state = model.state_dict()
    assert lean.state_dict().keys() <= state.keys()
    assert not any("noise" in name for name in lean.state_dict())
    lean.load_state_dict({name: state[name] for name in lean.state_dict()})
    assert config.for_inference() == config
    expected, found = (rows_of(one.encode(*all_queries(model))) for one in (model, lean))
    assert all(torch.equal(found[part], tensor) for part, tensor in expected.items())
    expected_table, found_table = model.entity_table(), lean.entity_table()
    assert all(torch.equal(found_table[branch], rows) for branch, rows in expected_table.items())


@pytest.mark.parametrize("extreme", [-1e4, 1e4])
def test_extreme_temperatures_leave_values_and_gradients_finite(
    name: str, extreme: float, make_model: Callable[..., LinkPredictor]
) -> None:
    model = make_model(name, 3)
    with torch.no_grad():
        for parameter, weight in model.named_parameters():
            if parameter == "temperature.weight":  # Where a model has one.
                weight.fill_(extreme)
    for training in (False, True):
        model.train(training)
        encoding = model.encode(*all_queries(model))
        assert all(tensor.isfinite().all() for tensor in rows_of(encoding).values())
        for gates in encoding.expert_gates.values():
            assert_close(gates.sum(dim=1), torch.ones(len(gates)))
    torch.autograd.backward(model.score(encoding.query, model.entity_table()).sum())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_an_unknown_model_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"'nonesuch' is not known; known are .*momok"):
        parse_config({"model": "nonesuch"})


def test_every_wrong_field_is_named(name: str, make_model: Callable[..., LinkPredictor]) -> None:
    fields = make_model(name, 1).config.model_dump(mode="json")
    with pytest.raises(ValueError, match=r"num_entities: .*; .*surprise: ") as caught:
        parse_config(fields | {"num_entities": 0, "surprise": 1})
    assert "\n" not in str(caught.value)
