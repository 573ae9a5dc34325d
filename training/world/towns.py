"""Towns: a small imaginary country whose facts can be read off coordinates and names.

Towns lie on a map of regions; neighbours are near, a region is a place, and a town's name sounds like the
language spoken there. So numbers tell where, names tell what is spoken, and structure tells the rest.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

from model.known import SPLITS, Int64
from model.modality import Modality
from model.names import Names
from training.dataset import STRUCTURE, Dataset

NUM_TOWNS = 160
GRID = (4, 2)
NUM_NEIGHBOURS = 3
TEXT_WIDTH = 64
HELD_OUT = 0.1

_LANGUAGES = {
    "Nordish": (("sk", "hj", "br", "str", "v"), ("a", "o", "ø", "ei"), ("vik", "dal", "heim", "nes")),
    "Sudan": (("m", "l", "r", "t", "p"), ("a", "e", "i", "o"), ("ella", "ino", "ara", "ossa")),
    "Ostic": (("zd", "kr", "pl", "sl", "vr"), ("a", "o", "u", "y"), ("ov", "grad", "ice", "sko")),
    "Wesh": (("ll", "gw", "c", "d", "t"), ("w", "y", "a", "e"), ("wyn", "bryn", "lan", "fod")),
}
_RELATIONS = ("in_region", "neighbour_of", "speaks", "capital_of", "borders")


def build_towns(seed: int = 0) -> Dataset:
    """The graph of a seed, with ``text`` (names) of every entity and ``numeric`` (map) of towns alone."""
    random = np.random.default_rng(seed)
    num_regions, languages = GRID[0] * GRID[1], list(_LANGUAGES)
    place_TX = random.uniform((0, 0), GRID, size=(NUM_TOWNS, 2))
    region_T = place_TX[:, 0].astype(int) * GRID[1] + place_TX[:, 1].astype(int)
    spoken_R = np.arange(num_regions) // 2 % len(languages)
    population_T = np.exp(random.normal(9, 1.2, size=NUM_TOWNS))
    towns = _town_names(random, [languages[spoken_R[region]] for region in region_T])
    names = [*towns, *(f"Region {letter}" for letter in "ABCDEFGH"[:num_regions]), *languages]
    facts = _facts(place_TX, region_T, spoken_R, population_T)
    numeric_TF = np.column_stack([place_TX, np.log(population_T)]).astype(np.float32)
    return Dataset(
        name="towns",
        entities=Names("entity", [name.replace(" ", "_") for name in names], names),
        relations=Names("relation", _RELATIONS, [name.replace("_", " ") for name in _RELATIONS]),
        descriptions=tuple([""] * len(names)),
        facts=_split(facts, random),
        modalities=(
            STRUCTURE,
            Modality("text", _trigrams(names), np.arange(len(names))),
            Modality("numeric", numeric_TF, np.arange(NUM_TOWNS)),
        ),
        provenance={"source": "momok demo: training.world.towns", "seed": seed},
    )


def _town_names(random: np.random.Generator, languages: list[str]) -> list[str]:
    names: list[str] = []
    while len(names) < len(languages):
        starts, vowels, ends = _LANGUAGES[languages[len(names)]]
        syllables = [random.choice(starts) + random.choice(vowels) for _ in range(random.integers(1, 3))]
        name = ("".join(syllables) + str(random.choice(ends))).capitalize()
        if name not in names:
            names.append(name)
    return names


def _facts(
    place_TX: npt.NDArray[np.float64],
    region_T: npt.NDArray[np.int_],
    spoken_R: npt.NDArray[np.int_],
    population_T: npt.NDArray[np.float64],
) -> Int64:
    """All facts int64[num_facts, 3]; towns, regions and languages are numbered in this order."""
    num_regions = len(spoken_R)
    first_region, first_language = NUM_TOWNS, NUM_TOWNS + num_regions
    distance_TT = np.linalg.norm(place_TX[:, None] - place_TX[None], axis=2)
    np.fill_diagonal(distance_TT, np.inf)
    near_TK = np.argsort(distance_TT, axis=1)[:, :NUM_NEIGHBOURS]
    pairs = {(town, int(other)) for town in range(NUM_TOWNS) for other in near_TK[town]}
    facts = [(a, 1, b) for pair in pairs for a, b in (pair, pair[::-1])]
    for town, region in enumerate(region_T.tolist()):
        facts += [(town, 0, first_region + region), (town, 2, first_language + int(spoken_R[region]))]
    for region in range(num_regions):
        inside = np.flatnonzero(region_T == region)
        capital = int(inside[np.argmax(population_T[inside])])
        facts.append((capital, 3, first_region + region))
        column, row = divmod(region, GRID[1])
        for other in range(num_regions):
            if abs(other // GRID[1] - column) + abs(other % GRID[1] - row) == 1:
                facts.append((first_region + region, 4, first_region + other))
    return np.unique(np.array(facts, dtype=np.int64), axis=0)


def _split(facts: Int64, random: np.random.Generator) -> dict[str, Int64]:
    order = random.permutation(len(facts))
    num_held = int(HELD_OUT * len(facts))
    parts = np.split(facts[order], [len(facts) - 2 * num_held, len(facts) - num_held])
    return dict(zip(SPLITS, parts, strict=True))


def _trigrams(names: list[str]) -> npt.NDArray[np.float32]:
    """Counts of hashed character trigrams, float32[n, TEXT_WIDTH]; crc32, as ``hash`` is salted."""
    counts = np.zeros((len(names), TEXT_WIDTH), dtype=np.float32)
    for row, name in enumerate(names):
        padded = f"^{name.casefold()}$"
        for start in range(len(padded) - 2):
            counts[row, zlib.crc32(padded[start : start + 3].encode()) % TEXT_WIDTH] += 1
    return counts
