"""MoMoK written the obvious way, as a yardstick: the same function and weights, none of the savings.

Each query contracts its own Tucker matrix, every expert's view is kept, all branches' scores and a dense
label matrix are held at once, the loss is ``BCELoss`` on sigmoids, ranks come from sorting every row, and
the optimiser is Adam as constructed by default. It takes about what the authors' released code takes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from momok.model.filter_index import FilterIndex
from momok.model.networks.layers import AttentionFusion, ExpertBank, TuckerScorer
from momok.model.networks.momok import MoMoK
from momok.training.objectives.batches import Batch
from momok.training.objectives.losses import LABEL_SMOOTHING


class PlainMoMoK(nn.Module):
    """The equations of MoMoK over the parameters of ``model``."""

    def __init__(self, model: MoMoK) -> None:
        super().__init__()
        self.model = model

    def forward(self, entity_B: Tensor, relation_B: Tensor) -> list[Tensor]:
        """Probabilities float32[B, N] of each branch."""
        model = self.model
        assert model.temperature and model.entity_fusion and model.relation_fusion, "the paper's model"
        temperature_B1 = model.temperature(relation_B).sigmoid()
        tables = [reducer(table.weight) for table, reducer in zip(model.inputs, model.reducers, strict=True)]
        query = [
            experts(bank, rows[entity_B], temperature_B1)
            for bank, rows in zip(model.experts, tables, strict=True)
        ]
        candidates = [experts(bank, rows, None) for bank, rows in zip(model.experts, tables, strict=True)]
        relations = [table(relation_B) for table in model.relations]
        query.append(fuse(model.entity_fusion, query, model.present[entity_B]))
        candidates.append(fuse(model.entity_fusion, candidates, model.present))
        relations.append(fuse(model.relation_fusion, relations, None))
        return [
            torch.sigmoid(tucker(scorer, given, relation) @ table.T)
            for scorer, given, relation, table in zip(
                model.scorers, query, relations, candidates, strict=True
            )
        ]


def experts(bank: ExpertBank, input_BD: Tensor, temperature_B1: Tensor | None) -> Tensor:
    logits_BK = input_BD @ bank.gate
    if bank.training and bank.noise is not None:
        logits_BK = logits_BK + torch.randn_like(logits_BK) * (F.softplus(input_BD @ bank.noise) + 0.01)
    if temperature_B1 is not None:
        logits_BK = logits_BK / temperature_B1
    gates_BK = logits_BK.softmax(dim=1)
    views = [(input_BD - bias) @ weight.T for bias, weight in zip(bank.bias, bank.weight, strict=True)]
    return (gates_BK.unsqueeze(2) * torch.stack(views, dim=1)).sum(dim=1)


def fuse(fusion: AttentionFusion, inputs: list[Tensor], present_BM: Tensor | None) -> Tensor:
    total = torch.zeros(())
    for maps in fusion.maps:
        mapped = [torch.relu(layer(fusion.dropout(x))) for layer, x in zip(maps, inputs, strict=True)]
        mapped_BMD = torch.stack(mapped, dim=1)
        logits_BM = fusion.attention(mapped_BMD).squeeze(2)
        if present_BM is not None:
            logits_BM = logits_BM.masked_fill(~present_BM, float("-inf"))
        total = total + (logits_BM.softmax(dim=1).unsqueeze(2) * mapped_BMD).sum(dim=1)
    return total


def tucker(scorer: TuckerScorer, input_BD: Tensor, relation_BR: Tensor) -> Tensor:
    width = input_BD.shape[1]
    input_BD = scorer.input_dropout(scorer.input_norm(input_BD))
    matrix_BDD = (relation_BR @ scorer.core.flatten(1)).view(-1, width, width)
    matrix_BDD = scorer.matrix_dropout(matrix_BDD)
    output_BD = torch.bmm(input_BD.unsqueeze(1), matrix_BDD).squeeze(1)
    result: Tensor = scorer.output_dropout(scorer.output_norm(output_BD))
    return result


def loss(probability: list[Tensor], batch: Batch) -> Tensor:
    """Binary cross-entropy with the released labels ``0.9 y + 1 / N``, branches summed."""
    label_BN = torch.zeros_like(probability[0])
    label_BN[batch.row, batch.answer] = 1.0
    label_BN = (1 - LABEL_SMOOTHING) * label_BN + 1 / label_BN.shape[1]
    return torch.stack([F.binary_cross_entropy(branch_BN, label_BN) for branch_BN in probability]).sum()


@torch.no_grad()
def ranks(
    plain: PlainMoMoK, entity: np.ndarray, relation: np.ndarray, truth: np.ndarray, known: FilterIndex
) -> np.ndarray:
    """Filtered ranks of ``truth`` among all entities, batches of 1,024, by sorting every row."""
    result = []
    for start in range(0, len(entity), 1024):
        part = slice(start, start + 1024)
        branches = plain(torch.from_numpy(entity[part]), torch.from_numpy(relation[part]))
        score_BN = torch.stack(branches).mean(dim=0)
        asked = zip(entity[part], relation[part], truth[part], strict=True)
        for row, (one, other, true) in enumerate(asked):
            target = score_BN[row, true].item()
            answers, _ = known.of(int(one), int(other))
            score_BN[row, torch.from_numpy(answers)] = 0.0
            score_BN[row, true] = target
        order_BN = torch.sort(score_BN, dim=1, descending=True).indices.numpy()
        result += [
            int(np.where(order == true)[0][0]) + 1 for order, true in zip(order_BN, truth[part], strict=True)
        ]
    return np.array(result)
