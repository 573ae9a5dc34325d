"""Adversarial: self-adversarial negatives, and modalities that generators make up (AdaMF-MAT)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from momok.model.filter_index import FilterIndex
from momok.model.networks.adamf import AdaMF
from momok.model.networks.base import LinkPredictor
from momok.model.networks.layers import Modules
from momok.model.rotation import paired_distance, rotate
from momok.training.objectives.base import Loss, ObjectiveConfig
from momok.training.objectives.batches import Batch
from momok.training.objectives.losses import negative_sampling
from momok.training.objectives.negatives import Corrupted
from momok.training.objectives.self_adversarial import SelfAdversarial, SelfAdversarialConfig


class AdversarialConfig(SelfAdversarialConfig):
    """Options of the generators."""

    adversarial_weight: float = Field(
        1e-2,
        gt=0,
        description="μ, weight of the facts with generated modalities.",
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


class Adversarial(SelfAdversarial):
    """AdaMF's loss, plus μ times that of true facts against facts of fake entities (MAT).

    A fake entity keeps its learned embedding; generators make up its other modalities, whether the entity has
    them or not. The model learns to score facts of fakes below the true ones; the generators learn, in a
    step of their own, to have them scored above. A model with one modality has no such term.
    """

    config_class: ClassVar[type[ObjectiveConfig]] = AdversarialConfig
    config: AdversarialConfig

    def __init__(self, model: LinkPredictor, config: AdversarialConfig, known: FilterIndex) -> None:
        super().__init__(model, config, known)
        if not isinstance(model, AdaMF):
            raise ValueError(
                f"adversarial makes up modalities of adamf, and the model is {model.config.model}; "
                "take [objective] kind = 'self_adversarial'"
            )
        shapes = model.config.modalities
        learned = [place for place, shape in enumerate(shapes) if shape.learned]
        if not learned:
            raise ValueError(
                "generators start from the learned modality of an entity: use it too, or take "
                "[objective] kind = 'self_adversarial'"
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

    def loss(self, model: LinkPredictor, batch: Batch) -> Loss:
        assert isinstance(model, AdaMF)
        if not self.generators:
            return super().loss(model, batch)
        asked = self.corrupt(batch)
        with torch.autocast(batch.entity.device.type, enabled=False):  # As of ``SelfAdversarial``.
            negatives, positive_B = self.against_negatives(model, asked)
            fakes = self.fake_scores(model, asked, self.noise(asked), of_model=True)
            adversarial = self._of_fakes(fakes, positive_B, generated_wins=False)
            total = negatives + self.config.adversarial_weight * adversarial
        self._last = asked, positive_B.detach()
        return Loss(total, {"negatives": negatives, "adversarial": adversarial})

    def after_step(self, model: LinkPredictor) -> dict[str, float]:
        if self._optimizer is None or self._last is None:
            return {}
        (asked, positive_B), self._last = self._last, None
        assert isinstance(model, AdaMF)
        fakes = self.fake_scores(model, asked, self.noise(asked))
        loss = self._of_fakes(fakes, positive_B, generated_wins=True)
        # Of the generators alone: the model had its step, and its gradients must stay clear for the next one.
        parameters = list(self.generators.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        self._optimizer.step()
        return {"generators": loss.item()}

    def optimizers(self) -> dict[str, Optimizer]:
        return {"generators": self._optimizer} if self._optimizer is not None else {}

    def noise(self, asked: Corrupted) -> list[list[Tensor]]:
        """The input of each generator for both ends of the facts: z ~ N(0, 1), float[B, Z]."""
        shape, device = (len(asked.entity), self.config.noise_width), asked.entity.device
        return [[torch.randn(shape, device=device) for _ in self.generators] for _ in range(2)]

    def fake_scores(
        self, model: AdaMF, asked: Corrupted, noise: Sequence[Sequence[Tensor]], *, of_model: bool = False
    ) -> list[Tensor]:
        """Scores float[B] of ``(h*, r, t)``, ``(h, r, t*)`` and ``(h*, r, t*)``, h being the entity asked.

        They carry gradients of the model (``of_model``) or of the generators.
        """
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

    def _of_fakes(self, fakes: Sequence[Tensor], positive_B: Tensor, *, generated_wins: bool) -> Tensor:
        """Each kind of fake against the true facts, one negative a positive, summed."""
        pairs = [(fake_B, positive_B) if generated_wins else (positive_B, fake_B) for fake_B in fakes]
        whole_B1 = torch.ones_like(positive_B[:, None])
        losses = [negative_sampling(above_B, below_B[:, None], whole_B1) for above_B, below_B in pairs]
        return torch.stack(losses).sum()
