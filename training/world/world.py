"""World: the demo graph as a dataset of four modalities, from the atlas and the flags."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from momok.model.arrays import Int64
from momok.model.bundle.names import Names
from momok.model.filter_index import SPLITS
from momok.training.data.dataset import STRUCTURE, Dataset
from momok.training.encoders.encode import with_modality
from momok.training.encoders.image import encode_pictures
from momok.training.encoders.numeric import encode_numbers
from momok.training.encoders.text import encode_texts
from momok.training.world.atlas import RELATIONS, Atlas, read_atlas

FLAGS = Path(__file__).parent / "flags"
"""Pictures by the key of their country."""

HELD_OUT = 0.1
"""Share of the facts for valid, and as many for test."""

ATTRIBUTES = ("area_km2", "population", "latitude", "longitude")
SYMMETRIC = ("borders",)


def build_world(seed: int = 0) -> Dataset:
    """The dataset; ``seed`` is that of the split.

    ``image`` belongs to the countries with a flag in ``FLAGS``, ``numeric`` to countries and capitals,
    ``text`` to all.
    """
    atlas = read_atlas()
    keys = [thing.key for thing in atlas.things]
    pictures = {path.stem: path for path in FLAGS.glob("*.png")}
    dataset = Dataset(
        name="world",
        entities=Names("entity", keys, [thing.label for thing in atlas.things]),
        relations=Names("relation", *zip(*RELATIONS, strict=True)),
        descriptions=tuple(thing.description for thing in atlas.things),
        facts=_split(_ids(atlas), np.random.default_rng(seed)),
        modalities=(STRUCTURE,),
        provenance={"source": "momok demo: training.world", "seed": seed},
        pictures=tuple(pictures[key].name if key in pictures else "" for key in keys),
        picture_folder=FLAGS,
    )
    value_NA = np.array(
        [[atlas.numbers.get(key, {}).get(name, np.nan) for name in ATTRIBUTES] for key in keys]
    )
    image = encode_pictures(
        "image", ((row, [pictures[key]]) for row, key in enumerate(keys) if key in pictures)
    )
    text = encode_texts("text", [atlas.texts.get(key, "") for key in keys])
    numeric = encode_numbers("numeric", value_NA)
    dataset = with_modality(dataset, image, "image", "flags", {}, ("pillow", "numpy"))
    dataset = with_modality(
        dataset, text, "text", "names in the tables and in CLDR", {}, ("scikit-learn", "numpy")
    )
    attributes = {"attributes": list(ATTRIBUTES)}
    return with_modality(dataset, numeric, "numeric", "tables", attributes, ("numpy",))


def _ids(atlas: Atlas) -> Int64:
    """All facts int64[num_facts, 3]."""
    entity = {thing.key: index for index, thing in enumerate(atlas.things)}
    relation = {key: index for index, (key, _) in enumerate(RELATIONS)}
    rows = [(entity[head], relation[kind], entity[tail]) for head, kind, tail in atlas.facts]
    return np.array(rows, dtype=np.int64)


def _split(facts: Int64, random: np.random.Generator) -> dict[str, Int64]:
    """Train, valid and test; the two directions of a symmetric fact stay together.

    One of them in train would give the other away.
    """
    symmetric = np.isin(facts[:, 1], [i for i, (key, _) in enumerate(RELATIONS) if key in SYMMETRIC])
    low, high = facts[:, [0, 2]].min(axis=1), facts[:, [0, 2]].max(axis=1)
    ends = np.where(symmetric[:, None], np.stack([low, high], axis=1), facts[:, [0, 2]])
    _, group = np.unique(np.column_stack([facts[:, 1], ends]), axis=0, return_inverse=True)
    place_of_group = random.permutation(group.max() + 1) / (group.max() + 1)
    place = place_of_group[group.ravel()]
    bounds = {"train": (2 * HELD_OUT, 1.0), "valid": (HELD_OUT, 2 * HELD_OUT), "test": (0.0, HELD_OUT)}
    return {split: facts[(place >= bounds[split][0]) & (place < bounds[split][1])] for split in SPLITS}
