"""Preparation: what a recipe means for a dataset, that is input tables and the model's configuration."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from momok.model.networks.base import MODELS, ModalityShape, ModelConfig, parse_config
from momok.model.networks.modality import Modality, ModalityInput, ModalitySpec
from momok.training.data.dataset import Dataset
from momok.training.fit.recipe import Recipe, RecipeError
from momok.training.objectives.base import ObjectiveConfig
from momok.training.objectives.kinds import parse_objective


def chosen_modalities(recipe: Recipe, dataset: Dataset) -> list[Modality]:
    """The modalities that a recipe uses, in the dataset's order. Raises ``RecipeError`` for unknown ones."""
    available = [modality.name for modality in dataset.modalities]
    wanted = available if recipe.use is None else recipe.use
    for name in [*wanted, *recipe.modalities]:
        if name not in available:
            raise RecipeError(f"modality {name!r} is not in the dataset; it has {', '.join(available)}")
    if not wanted:
        raise RecipeError("use: name at least one modality")
    return [modality for modality in dataset.modalities if modality.name in wanted]


def fit_inputs(recipe: Recipe, dataset: Dataset) -> list[ModalityInput]:
    """The input tables of the modalities in use, fitted on the train side, seeded by the recipe.

    Raises ``RecipeError`` for modalities that the dataset lacks or that no train entity has, and where some
    entity has none of those in use.
    """
    generator = torch.Generator().manual_seed(recipe.training.seed)
    seen = dataset.seen_entities()
    try:
        inputs = [
            recipe.modalities.get(modality.name, ModalitySpec()).fit(
                modality, num_entities=dataset.num_entities, train_entities=seen, generator=generator
            )
            for modality in chosen_modalities(recipe, dataset)
        ]
    except ValueError as error:
        raise RecipeError(str(error)) from None
    bare_N = ~torch.stack([given.present for given in inputs]).any(dim=0)
    if bool(bare_N.any()):
        example = dataset.entities.keys[int(bare_N.nonzero()[0])]
        raise RecipeError(
            f"use: {int(bare_N.sum())} entities, such as {example!r}, have none of these modalities; "
            f"add one that all have, such as {dataset.modalities[0].name!r}"
        )
    return inputs


def configure(recipe: Recipe, dataset: Dataset, inputs: Sequence[ModalityInput]) -> ModelConfig:
    """The configuration of the model that a recipe means for a dataset. Raises ``RecipeError``."""
    shapes = [
        {
            "name": modality.name,
            "input_width": given.table.shape[1],
            "width": given.width,
            "learned": modality.features is None,
        }
        for modality, given in zip(chosen_modalities(recipe, dataset), inputs, strict=True)
    ]
    derived = {
        "model": recipe.model,
        "num_entities": dataset.num_entities,
        "num_relations": dataset.num_relations,
        "modalities": [ModalityShape.model_validate(shape) for shape in shapes],
    }
    if given_twice := sorted(set(recipe.network) & set(derived)):
        raise RecipeError(f"network: {', '.join(given_twice)} follow from the dataset; leave them out")
    decision = objective_of(recipe).paired_decision()
    # A model with one branch fuses nothing. If it cannot learn by the objective, the objective says so.
    fuses = MODELS[recipe.model][0].model_fields["decision"].default != "single"
    paired = {"decision": decision} if fuses and decision is not None else {}
    try:
        return parse_config(paired | recipe.network | derived)
    except ValueError as error:
        raise RecipeError(f"network: {error}") from None


def objective_of(recipe: Recipe) -> ObjectiveConfig:
    """The objective's configuration. Raises ``RecipeError`` for an unknown model or bad fields."""
    if recipe.model not in MODELS:
        raise RecipeError(f"model: {recipe.model!r} is not known; known are {', '.join(sorted(MODELS))}")
    try:
        return parse_objective(recipe.model, recipe.objective)
    except ValueError as error:
        raise RecipeError(f"objective: {error}") from None
