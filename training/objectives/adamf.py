"""How AdaMF is trained: self-adversarial negatives, and for AdaMF-MAT modalities that generators make up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from model.adamf import AdaMF
from model.decision import Decision
from model.known import KnownAnswers
from model.layers import Modules
from model.rotation import paired_distance, rotate
from training.batches import Batch, Batches, FactBatches
from training.losses import self_adversarial
from training.negatives import Corrupted, NegativeSampler
from training.objectives.base import OBJECTIVES, Loss, Objective, ObjectiveConfig


class AdaMFObjectiveConfig(ObjectiveConfig):
    """Loss of AdaMF."""

    num_negatives: int = Field(128, ge=1, description="Negatives of each fact.")
    shared_by: int = Field(
        128,
        ge=1,
        description="Facts of a batch that share their negatives: 1 is the paper's and several times slower.",
    )
    beta: float = Field(
        2.0, ge=0, description="β, how much more a negative weighs that scores higher; 0: all weigh the same."
    )

    def paired_decision(self) -> Decision:
        return "single"


class AdversarialConfig(AdaMFObjectiveConfig):
    """Loss of AdaMF-MAT."""

    adversarial_weight: float = Field(
        1e-2,
        gt=0,
        description="μ, weight of the facts with generated modalities; 0 would be the model adamf.",
    )
    generator_learning_rate: float = Field(1e-4, gt=0, description="Adam's step for the generators.")
    noise_width: int = Field(64, ge=1, description="Numbers of noise that a generator is given.")
    hidden_width: int = Field(512, ge=1, description="Width of a generator's hidden layer.")


class Generator(nn.Module):
    """Makes up a projected modality of an entity from noise and its learned embedding."""

    def __init__(self, noise_width: int, hidden_width: int, width: int) -> None:
        super().__init__()
        self.noise_width = noise_width
        self.hidden = nn.Linear(noise_width + width, hidden_width)
        self.output = nn.Linear(hidden_width, width)

    def forward(self, learned_BX: Tensor, noise_BZ: Tensor) -> Tensor:
        """float[B, 2d] from the learned embedding float[B, 2d] and noise float[B, Z]."""
        made_BX: Tensor = self.output(F.leaky_relu(self.hidden(torch.cat([noise_BZ, learned_BX], dim=1))))
        return made_BX


class AdaMFObjective(Objective):
    """Facts against corrupted ones, whose weights follow their scores (RotatE, arXiv 1902.10197)."""

    def __init__(self, model: AdaMF, config: AdaMFObjectiveConfig, known: KnownAnswers) -> None:
        super().__init__()
        self.model = (model,)  # In a tuple, so that the model's weights are not the objective's too.
        self.config = config
        self.sampler = NegativeSampler(known)

    def batches(self, known: KnownAnswers, batch_size: int) -> Batches:
        return FactBatches(known, batch_size)

    def loss(self, batch: Batch) -> Loss:
        with torch.autocast(batch.entity.device.type, enabled=False):  # Distances are small differences.
            asked = self.sampler.corrupt(batch, self.config.num_negatives, self.config.shared_by)
            losses, total = self._losses(asked)
        values = torch.stack([value.detach() for value in losses.values()]).tolist()
        return Loss(total, dict(zip(losses, values, strict=True)))

    def _losses(self, asked: Corrupted) -> tuple[dict[str, Tensor], Tensor]:
        """The parts of the loss and what is minimised."""
        negatives, _ = self._against_negatives(asked)
        return {"negatives": negatives}, negatives

    def _against_negatives(self, asked: Corrupted) -> tuple[Tensor, Tensor]:
        """The loss against corrupted facts, and the scores float[B] of the true ones."""
        (model,) = self.model
        shape, num_rows = asked.negative.shape, len(asked.entity)
        wanted = torch.cat([asked.entity, asked.answer, asked.negative.flatten()])
        # Each is fused once, however often it is wanted: negatives of their own want nearly all.
        entities, place = torch.unique(wanted, return_inverse=True)
        fused, _ = model.fuse(model.parts(entities), model.present[entities])
        vectors = F.embedding(place, fused)
        entity_BX, answer_BX, negative_PX = torch.split(vectors, [num_rows, num_rows, asked.negative.numel()])
        query_BX = rotate(entity_BX, model.phases(asked.relation))
        margin = model.config.margin
        positive_B = margin - paired_distance(query_BX, answer_BX)
        negative_Bn = margin - asked.distances(query_BX, negative_PX.view(*shape, -1))
        negative_Bn = negative_Bn.masked_fill(asked.is_true, -torch.inf)
        return self_adversarial(positive_B, negative_Bn, self.config.beta), positive_B


class AdversarialObjective(AdaMFObjective):
    """AdaMF's loss, plus μ times that of true facts against facts of fake entities (MAT).

    A fake entity keeps its learned embedding; a generator each makes up its other modalities, whether the
    entity has them or not. The model learns to score facts of fakes below the true ones, the generators in a
    step of their own to have them scored above. Without another modality there is nothing to make up, and no
    such term. Raises ``ValueError`` for a model without a learned modality.
    """

    config: AdversarialConfig

    def __init__(self, model: AdaMF, config: AdversarialConfig, known: KnownAnswers) -> None:
        super().__init__(model, config, known)
        shapes = model.config.modalities
        learned = [place for place, shape in enumerate(shapes) if shape.learned]
        if not learned:
            raise ValueError(
                "generators start from what is learned of an entity: use its structure, or train adamf"
            )
        self._learned = learned[0]
        width = 2 * model.config.dim
        self.generators: Modules[Generator] = Modules(
            Generator(config.noise_width, config.hidden_width, width) for _ in shapes[1:]
        )
        self._optimizer = (
            Adam(self.generators.parameters(), lr=config.generator_learning_rate) if self.generators else None
        )
        self._last: tuple[Corrupted, Tensor] | None = None

    def after_step(self) -> dict[str, float]:
        if self._optimizer is None or self._last is None:
            return {}
        (asked, positive_B), self._last = self._last, None
        loss = self._of_fakes(self.fake_scores(asked, self.noise(asked)), positive_B, generated_wins=True)
        # Of the generators alone: the model had its step, and its slopes must stay clear for the next one.
        parameters = list(self.generators.parameters())
        for parameter, slope in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = slope
        self._optimizer.step()
        return {"generators": loss.item()}

    def optimizers(self) -> dict[str, Optimizer]:
        return {"generators": self._optimizer} if self._optimizer is not None else {}

    def noise(self, asked: Corrupted) -> list[list[Tensor]]:
        """For both ends of the facts, what each generator is given: z ~ N(0, 1), float[B, Z]."""
        shape, device = (len(asked.entity), self.config.noise_width), asked.entity.device
        return [[torch.randn(shape, device=device) for _ in self.generators] for _ in range(2)]

    def fake_scores(
        self, asked: Corrupted, noise: Sequence[Sequence[Tensor]], *, of_model: bool = False
    ) -> list[Tensor]:
        """Scores float[B] of ``(h*, r, t)``, ``(h, r, t*)`` and ``(h*, r, t*)``, h being who asks.

        They carry slopes of the model (``of_model``) or of the generators.
        """
        (model,) = self.model
        vectors = []
        with torch.set_grad_enabled(of_model):
            phase_BD = model.phases(asked.relation)
        for entity_B, noises in zip((asked.entity, asked.answer), noise, strict=True):
            with torch.set_grad_enabled(of_model):
                parts = model.parts(entity_B)
                real_BX, _ = model.fuse(parts, model.present[entity_B])
            with torch.set_grad_enabled(not of_model):
                learned_BX = parts[self._learned].detach()
                made = [make(learned_BX, given) for make, given in zip(self.generators, noises, strict=True)]
            made.insert(self._learned, parts[self._learned])
            fake_BX, _ = model.fuse(made)
            vectors.append((real_BX, fake_BX))
        (head_BX, fake_head_BX), (tail_BX, fake_tail_BX) = vectors
        facts = (fake_head_BX, tail_BX), (head_BX, fake_tail_BX), (fake_head_BX, fake_tail_BX)
        return [model.config.margin - paired_distance(rotate(h, phase_BD), t) for h, t in facts]

    def _losses(self, asked: Corrupted) -> tuple[dict[str, Tensor], Tensor]:
        negatives, positive_B = self._against_negatives(asked)
        if not self.generators:
            return {"negatives": negatives}, negatives
        fakes = self.fake_scores(asked, self.noise(asked), of_model=True)
        adversarial = self._of_fakes(fakes, positive_B, generated_wins=False)
        self._last = asked, positive_B.detach()
        total = negatives + self.config.adversarial_weight * adversarial
        return {"negatives": negatives, "adversarial": adversarial}, total

    def _of_fakes(self, fakes: Sequence[Tensor], positive_B: Tensor, *, generated_wins: bool) -> Tensor:
        """Each kind of fake against the true facts, one negative a positive, summed."""
        pairs = [(fake_B, positive_B) if generated_wins else (positive_B, fake_B) for fake_B in fakes]
        losses = [self_adversarial(above_B, below_B[:, None], self.config.beta) for above_B, below_B in pairs]
        return torch.stack(losses).sum()


OBJECTIVES["adamf"] = (AdaMFObjectiveConfig, AdaMFObjective)
OBJECTIVES["adamf-mat"] = (AdversarialConfig, AdversarialObjective)
