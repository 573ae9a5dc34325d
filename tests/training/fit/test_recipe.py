"""Recipes: what is wrong is named by file, override and key; what is right means one configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from momok.model.networks.base import ModalityShape
from momok.model.networks.layers import Dropout
from momok.model.networks.modality import Modality, ModalitySpec
from momok.model.networks.momok import MoMoK, MoMoKConfig
from momok.training.data.dataset import STRUCTURE, Dataset
from momok.training.fit.preparation import chosen_modalities, configure, fit_inputs, objective_of
from momok.training.fit.recipe import Recipe, RecipeError, find_config
from momok.training.objectives.one_to_n import OneToNConfig
from tests.conftest import REPOSITORY
from tests.training.builders import FIELDS, make_dataset, make_recipe

CONFIGS = sorted((REPOSITORY / "configs").glob("*.toml"))
GRIDS = sorted((REPOSITORY / "configs" / "grids").glob("*.toml"))


def recipe_of(**fields: Any) -> Recipe:
    return Recipe.model_validate(FIELDS | fields)


def configured(recipe: Recipe, dataset: Dataset | None = None) -> MoMoKConfig:
    dataset = dataset or make_dataset()
    config = configure(recipe, dataset, fit_inputs(recipe, dataset))
    assert isinstance(config, MoMoKConfig)
    return config


# Reading


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_recipe_we_offer_loads_and_configures(path: Path) -> None:
    recipe, dataset = Recipe.load(path), make_dataset()
    assert path.stem.startswith(f"{recipe.model}-")
    config = configure(recipe, dataset, fit_inputs(recipe, dataset))
    loss = objective_of(recipe).model_dump().get("loss")
    assert (loss, config.decision) in {("ce", "sum"), ("bce", "mean_sigmoid"), (None, "single")}


def test_there_are_recipes() -> None:
    assert CONFIGS


def test_a_file_says_everything_and_overrides_say_it_again(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('use = ["text"]\n[training]\nseed = 3\nbatch_size = 7\n', encoding="utf-8")
    assert Recipe.load(path).training.batch_size == 7
    recipe = Recipe.load(path, ["training.batch_size=8", "training.batch_size=9", "network.num_experts = 2"])
    assert (recipe.training.seed, recipe.training.batch_size, recipe.use) == (3, 9, ("text",))
    assert recipe.network == {"num_experts": 2}


def test_without_a_file_all_is_default_and_a_base_is_kept() -> None:
    assert Recipe.load(None) == Recipe()
    base = make_recipe(seed=9)
    assert Recipe.load(None, base=base) == base
    changed = Recipe.load(None, ["training.max_epochs=7", "network.num_experts=5"], base=base)
    assert changed.training == base.training.model_copy(update={"max_epochs": 7})
    assert base == make_recipe(seed=9)  # Untouched, nested tables too.


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.learning_rate=2e-3", 2e-3),
        ("training.learning_rate = 1", 1.0),
        ("model=momok", "momok"),
        ('model="momok"', "momok"),
        ("use=['text', 'structure']", ("text", "structure")),
        ("modalities.text.width=5", ModalitySpec(width=5)),
        ("network.gate_noise=false", False),
        ("objective.loss=bce", "bce"),
    ],
)
def test_values_of_overrides_need_no_quotes(override: str, expected: Any) -> None:
    recipe: Any = Recipe.load(None, [override])
    for key in override.partition("=")[0].strip().split("."):
        if key == "width":
            break
        recipe = recipe[key] if isinstance(recipe, dict) else getattr(recipe, key)
    assert recipe == expected


# What is wrong is named


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("surprise = 1", "surprise"),
        ("model = 3", "model"),
        ('use = "text"', "use"),
        ("network = 3", "network"),
        ("[training]\nbatch_size = 1", r"training\.batch_size"),
        ('[training]\nbatch_size = "many"', r"training\.batch_size"),
        ("[training]\nlearning_rate = 0", r"training\.learning_rate"),
        ("[training]\nlearning_rate = nan", r"training\.learning_rate"),
        ("[training]\nmax_epochs = 0", r"training\.max_epochs"),
        ("[training]\nmax_minutes = 0", r"training\.max_minutes"),
        ("[training]\nvalidate_every = 0", r"training\.validate_every"),
        ("[training]\npatience = 0", r"training\.patience"),
        ("[training]\nseed = -1", r"training\.seed"),
        ("[training]\nseed = 18446744073709551616", r"training\.seed"),
        ("[training]\nepochs = 5", r"training\.epochs"),
        ("[modalities.text]\nwidth = 1", r"modalities\.text\.width"),
        ("[modalities.text]\nwidht = 8", r"modalities\.text\.widht"),
        ('[modalities.text]\nreduce = "umap"', r"modalities\.text\.reduce"),
        ("[training\n", "line 1"),
        ("seed = 1\nuse = = 2", "line 2"),
    ],
)
def test_a_bad_field_is_named_with_its_file(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=rf"bad\.toml: .*{key}"):
        Recipe.load(path)


def test_all_bad_fields_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("surprise = 1\n[training]\nseed = -1\npatience = 0", encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path)
    assert all(key in str(caught.value) for key in ("surprise", "training.seed", "training.patience"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.batch_size", "--set training.batch_size: expected dotted.key=value"),
        ("=3", "--set =3: expected dotted.key=value"),
        ("", "--set : expected dotted.key=value"),
        ("model.name=3", "--set model.name=3: 'model' is a value, not a table"),
        ("training.batch_size=none", "training.batch_size"),
        ("training.seed=", "training.seed"),
        ("trainning.seed=1", "trainning"),
        ("training=3", "training"),
        ("use=text", "use"),
        ("training..seed=3", "training"),
    ],
)
def test_a_bad_override_is_named(tmp_path: Path, override: str, said: str) -> None:
    path = tmp_path / "good.toml"
    path.write_text('model = "momok"', encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path, [override])
    assert said in str(caught.value)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.toml: no such recipe"):
        Recipe.load(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="no such recipe"):
        Recipe.load(tmp_path)
    (tmp_path / "latin.toml").write_bytes('model = "é"'.encode("latin-1"))
    with pytest.raises(RecipeError, match=r"latin\.toml: .*utf-8"):
        Recipe.load(tmp_path / "latin.toml")


def test_recipes_and_grids_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CONFIGS and GRIDS
    for file in CONFIGS:
        assert find_config(Path(file.stem), "recipe").samefile(file)
    for file in GRIDS:
        assert find_config(Path(file.stem), "grid").samefile(file)
    with pytest.raises(RecipeError, match=r"no such recipe; .* adamf-db15k, .*, momok-mkg-y"):
        find_config(Path("momok-mkgy"), "recipe")


def test_a_file_wins_over_a_name_and_a_folder_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = Path("momok-mkg-y")
    name.mkdir()  # As of a run that bears the recipe's name.
    assert find_config(name, "recipe").suffix == ".toml"
    name.rmdir()
    name.touch()
    assert find_config(name, "recipe") == name


# What a recipe means for a dataset


def test_a_configuration_follows_from_recipe_and_dataset() -> None:
    dataset = make_dataset()
    config = configured(make_recipe(), dataset)
    assert (config.num_entities, config.num_relations) == (dataset.num_entities, 2)
    shapes = [(shape.name, shape.input_width, shape.width) for shape in config.modalities]
    assert shapes == [("structure", 8, 8), ("text", 8, 8), ("numeric", 8, 8)]
    assert (config.num_experts, config.relation_width, config.joint_width) == (3, 6, 8)
    assert config.decision == "sum"


def test_a_learned_reduction_keeps_the_input_wide() -> None:
    modalities = FIELDS["modalities"] | {"text": {"width": 8, "reduce": "linear"}}
    text = configured(recipe_of(modalities=modalities)).modalities[1]
    assert (text.input_width, text.width) == (40, 8)


def test_modalities_keep_the_datasets_order_and_only_those_in_use() -> None:
    recipe = recipe_of(use=["numeric", "structure"])
    assert [modality.name for modality in chosen_modalities(recipe, make_dataset())] == [
        "structure",
        "numeric",
    ]
    assert [shape.name for shape in configured(recipe).modalities] == ["structure", "numeric"]


@pytest.mark.parametrize(
    ("objective", "network", "decision"),
    [
        ({}, {}, "sum"),
        ({"loss": "ce"}, {}, "sum"),
        ({"loss": "bce"}, {}, "mean_sigmoid"),
        ({"loss": "bce"}, {"decision": "sum"}, "sum"),
    ],
)
def test_the_decision_goes_with_the_loss_unless_told(
    objective: dict[str, Any], network: dict[str, Any], decision: str
) -> None:
    config = configured(recipe_of(objective=objective, network=FIELDS["network"] | network))
    assert config.decision == decision


def test_inputs_follow_from_the_seed() -> None:
    dataset = make_dataset()
    one, same, other = (fit_inputs(make_recipe(seed=seed), dataset) for seed in (1, 1, 2))
    for first, second in zip(one, same, strict=True):
        assert torch.equal(first.table, second.table)
    assert not torch.equal(one[0].table, other[0].table)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"use": ["structure", "smell"]}, "'smell' is not in the dataset; it has structure, text, numeric"),
        ({"modalities": {"txt": {}}}, "'txt' is not in the dataset; it has structure, text, numeric"),
        ({"use": []}, "use: name at least one"),
        ({"use": ["text"]}, "use: 14 entities, such as 'e0', have none of these modalities; .* 'structure'"),
        ({"use": ["text", "numeric"]}, "use: 3 entities, such as 'e33'"),
        ({"model": "mokom"}, "model: 'mokom' is not known; known are .*momok"),
        ({"network": {"num_expert": 2}}, "network: num_expert: "),
        ({"network": {"num_experts": 0}}, "network: num_experts: "),
        ({"network": {"decision": "max"}}, "network: decision: "),
        ({"network": {"num_entities": 7, "modalities": []}}, "network: modalities, num_entities follow"),
        ({"objective": {"loss": "mse"}}, "objective: loss: "),
        ({"objective": {"club_wieght": 1}}, "objective: club_wieght: "),
        ({"objective": {"club_weight": -1}}, "objective: club_weight: "),
    ],
)
def test_what_does_not_fit_the_dataset_is_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        configured(recipe_of(**fields))


def test_a_modality_that_nobody_in_train_has_is_named() -> None:
    whole = make_dataset()
    last = np.array([whole.num_entities - 1])
    dataset = Dataset(
        name="late",
        entities=whole.entities,
        relations=whole.relations,
        descriptions=whole.descriptions,
        facts=whole.facts,
        modalities=(STRUCTURE, Modality("text", np.ones((1, 40), np.float32), last)),
        provenance={},
    )
    recipe = Recipe.model_validate({"modalities": {"text": {"width": 8}}})
    with pytest.raises(RecipeError, match="'text': no entity of the train split has it"):
        configured(recipe, dataset)


def test_fields_of_the_objective_reach_it() -> None:
    objective = objective_of(recipe_of(objective={"loss": "bce", "club_likelihood": "released"}))
    assert isinstance(objective, OneToNConfig)
    assert (objective.loss, objective.club_likelihood) == ("bce", "released")


def test_a_limit_can_be_lifted_and_a_value_is_one_value() -> None:
    base = Recipe.load(None, ["training.max_minutes=5"])
    assert base.training.max_minutes == 5
    assert Recipe.load(None, ["training.max_minutes=none"], base=base).training.max_minutes is None
    with pytest.raises(RecipeError, match=r"training\.seed"):
        Recipe.load(None, ["training.seed=1\nother=2"])
    with pytest.raises(RecipeError, match="finite"):
        Recipe.load(None, ["training.learning_rate=inf"])
    with pytest.raises(RecipeError, match=r"club_weight: .*finite"):
        objective_of(Recipe.load(None, ["objective.club_weight=inf"]))


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("fusion_dropout", "entity_fusion.dropout"),
        ("fusion_dropout", "relation_fusion.dropout"),
        ("input_dropout", "scorers.0.input_dropout"),
        ("matrix_dropout", "scorers.1.matrix_dropout"),
        ("output_dropout", "scorers.1.output_dropout"),
    ],
)
def test_each_dropout_reaches_its_module(field: str, path: str) -> None:
    shape = ModalityShape(name="structure", input_width=4, width=4)
    config = MoMoKConfig(num_entities=5, num_relations=1, modalities=(shape,))
    config = config.model_copy(update={field: 0.123})
    model = MoMoK(config)
    module = model.get_submodule(path)
    assert isinstance(module, Dropout)
    assert module.p == 0.123
    seen: list[bool] = []
    module.register_forward_hook(lambda *_: seen.append(True))
    model.encode(torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert seen, "in the configuration, but not on the way of a query"
