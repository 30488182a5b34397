"""What the sample marketplace sells and how its sellers write: read from the two TOML files beside this one."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from curation.catalog.sample_dice import Dice
from curation.types import PATH_SEPARATOR, VIOLATIONS

ZIPF_EXPONENT = 0.5
"""Class sizes fall as rank^-0.5: of 3,000 listings the largest leaf has about 245, the smallest 20."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of the taxonomy. `price`: median in EUR and spread of its logarithm."""

    key: str
    path: str
    family: str
    price: tuple[float, float]
    shape: str
    nouns: Mapping[str, tuple[str, ...]]  #: what it is → what only this kind has
    traits: tuple[str, ...]  #: what all of them have
    de: tuple[str, ...]
    fr: tuple[str, ...]
    vague: tuple[str, ...]  #: nouns of the whole family
    shared: tuple[str, ...]  #: phrases of the whole family
    brands: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    look: Mapping[str, float] = field(default_factory=dict)
    near: tuple[str, ...] = ()  #: keys of the leaves it is confused with, the likeliest first

    @property
    def root(self) -> str:
        return self.path.partition(PATH_SEPARATOR)[0]


@dataclass(frozen=True, slots=True)
class Policy:
    """One violation: how often it comes (share of all listings), where, and its words."""

    name: str
    share: float
    leaves: frozenset[str]  #: keys of the leaves it occurs in
    phrases: tuple[str, ...]
    honest: tuple[str, ...]
    things: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Goods:
    """All leaves with their popularity, and all phrases."""

    leaves: Mapping[str, Leaf]
    popularity: Mapping[str, float]  #: leaf key → share of listings
    policies: tuple[Policy, ...]
    phrases: Mapping[str, Any]

    def chance(self, policy: Policy, leaf: str) -> float:
        """Probability of this violation given the leaf, so that its share holds over all listings."""
        if leaf not in policy.leaves:
            return 0.0
        return policy.share / sum(self.popularity[key] for key in policy.leaves)


@cache
def load() -> Goods:
    """The goods and phrases that come with the package."""
    goods, phrases = _read("sample_goods.toml"), _read("sample_phrases.toml")
    leaves = {key: _leaf(key, said, goods, phrases["colours"]) for key, said in goods["leaf"].items()}
    ranked = list(leaves)
    Dice.of("popularity").shuffle(ranked)
    sizes = {key: (rank + 1) ** -ZIPF_EXPONENT for rank, key in enumerate(ranked)}
    total = sum(sizes.values())
    policies = tuple(_policy(name, phrases["violation"][name], leaves) for name in VIOLATIONS)
    return Goods(leaves, {key: sizes[key] / total for key in leaves}, policies, phrases)


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name(name).read_text("utf-8"))


def _leaf(key: str, said: dict[str, Any], goods: dict[str, Any], colours: list[str]) -> Leaf:
    family = goods["family"][said["family"]]
    kin = [other for other, its in goods["leaf"].items() if its["family"] == said["family"] and other != key]
    lists = {name: tuple(said[name]) for name in ("traits", "de", "fr", "brands")}
    return Leaf(
        key=key,
        path=said["path"],
        family=said["family"],
        price=(said["price"][0], said["price"][1]),
        shape=said["shape"],
        nouns=dict(map(_noun, said["nouns"])),
        vague=tuple(family["vague"]),
        shared=tuple(family["shared"]),
        colours=tuple(said.get("colours", colours)),
        look=said["look"],
        near=tuple(dict.fromkeys(said["near"] + kin)),
        **lists,
    )


def _noun(said: str) -> tuple[str, tuple[str, ...]]:
    noun, _, own = said.partition(": ")
    return noun, tuple(own.split("; "))


def _policy(name: str, said: dict[str, Any], leaves: Mapping[str, Leaf]) -> Policy:
    """A policy that names neither leaves nor families occurs everywhere."""
    named, families = set(said.get("leaves", ())), set(said.get("families", ()))
    where = {key for key, leaf in leaves.items() if key in named or leaf.family in families} or set(leaves)
    return Policy(
        name, said["share"], frozenset(where), tuple(said["phrases"]), tuple(said["honest"]), tuple(said.get("things", ()))
    )
