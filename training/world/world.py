"""World: the demo graph as a dataset of four modalities, from the atlas and the flags."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from momok.model.arrays import Int64
from momok.model.bundle.names import Names
from momok.model.filter_index import SPLITS
from momok.training.data.dataset import STRUCTURE, Dataset
from momok.training.encoders.base import About, Options
from momok.training.encoders.encode import with_modality
from momok.training.encoders.image import IMAGE
from momok.training.encoders.jobs import JobOptions
from momok.training.encoders.numeric import encode_numbers
from momok.training.encoders.text import encode_texts
from momok.training.world.atlas import RELATIONS, Atlas, Entity, read_atlas

FLAGS = Path(__file__).parent / "flags"
"""Pictures by the key of their country."""

HELD_OUT = 0.1
"""Share of the facts for valid, and as many for test."""

ATTRIBUTES = ("area_km2", "population", "latitude", "longitude")
SYMMETRIC = ("borders",)


def build_world(seed: int = 0) -> Dataset:
    """The dataset; ``seed`` is that of the split.

    Countries with a flag in ``FLAGS`` have ``image``, countries and capitals ``numeric``, all entities
    ``text``.
    """
    atlas = read_atlas()
    entities = list(atlas.entities.values())
    flags = {path.stem: path.name for path in FLAGS.glob("*.png")}
    dataset = Dataset(
        name="world",
        entities=Names("entity", list(atlas.entities), [entity.label for entity in entities]),
        relations=Names("relation", *zip(*RELATIONS, strict=True)),
        descriptions=tuple(entity.description for entity in entities),
        facts=_split(_ids(atlas), np.random.default_rng(seed)),
        modalities=(STRUCTURE,),
        provenance={"source": "momok demo: training.world", "seed": seed},
        pictures=tuple(flags.get(key, "") for key in atlas.entities),
        picture_folder=FLAGS,
    )
    return _with_modalities(dataset, entities)


def _with_modalities(dataset: Dataset, entities: list[Entity]) -> Dataset:
    """With ``image``, ``text`` and ``numeric``."""
    flags = IMAGE.start(dataset, str(FLAGS), Options())
    image = flags.run("image", JobOptions())
    assert image is not None
    text = encode_texts("text", [entity.text for entity in entities])
    value_NA = np.array([[entity.numbers.get(name, np.nan) for name in ATTRIBUTES] for entity in entities])
    numeric = encode_numbers("numeric", value_NA)
    names, of_text = "names in the tables and in CLDR", About({}, ("scikit-learn", "numpy"))
    of_numbers = About({"attributes": list(ATTRIBUTES)}, ("numpy",))
    dataset = with_modality(dataset, image, "image", "flags", flags.about)
    dataset = with_modality(dataset, text, "text", names, of_text)
    return with_modality(dataset, numeric, "numeric", "tables", of_numbers)


def _ids(atlas: Atlas) -> Int64:
    """All facts, int64[num_facts, 3]."""
    entity = {key: index for index, key in enumerate(atlas.entities)}
    relation = {key: index for index, (key, _) in enumerate(RELATIONS)}
    rows = [(entity[head], relation[one], entity[tail]) for head, one, tail in atlas.facts]
    return np.array(rows, dtype=np.int64)


def _split(facts: Int64, random: np.random.Generator) -> dict[str, Int64]:
    """Train, valid and test. Both directions of a symmetric fact go together: either would tell the other."""
    symmetric = np.isin(facts[:, 1], [i for i, (key, _) in enumerate(RELATIONS) if key in SYMMETRIC])
    ends = facts[:, [0, 2]]
    ends = np.where(symmetric[:, None], np.sort(ends, axis=1), ends)
    _, group = np.unique(np.column_stack([facts[:, 1], ends]), axis=0, return_inverse=True)
    num_groups = group.max() + 1
    place = (random.permutation(num_groups) / num_groups)[group.ravel()]
    bounds = {"train": (2 * HELD_OUT, 1.0), "valid": (HELD_OUT, 2 * HELD_OUT), "test": (0.0, HELD_OUT)}
    return {split: facts[(place >= bounds[split][0]) & (place < bounds[split][1])] for split in SPLITS}
