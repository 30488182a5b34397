"""The sample marketplace's sellers: what they sell, how they write, and how they pick a category."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from curation.catalog.sample_dice import Dice, T
from curation.catalog.sample_goods import Goods, Leaf

LISTINGS_PER_SELLER = 9
CONFUSED_SHARE = 0.06
"""Share of a leaf's listings that go straight to the sellers whom it confuses, if there are any."""

AT_HOME = 0.7
"""Share of listings under a root that are put up by sellers who mostly sell under that root."""


class Habit(StrEnum):
    """How a seller goes wrong when picking a category."""

    #: seldom, and only into a neighbouring leaf
    CAREFUL = "careful"
    #: often, mostly into a neighbouring leaf, sometimes anywhere
    CARELESS = "careless"
    #: takes one particular leaf for another, again and again
    CONFUSED = "confused"
    #: takes "Other" or the first entry of the menu
    LAZY = "lazy"


SHARES = {Habit.CAREFUL: 0.5, Habit.CARELESS: 0.26, Habit.CONFUSED: 0.14, Habit.LAZY: 0.1}
LANGUAGES = {"en": 0.91, "de": 0.06, "fr": 0.03}


@dataclass(frozen=True, slots=True)
class Seller:
    """`confusion`: (true leaf, leaf taken for it) of a confused seller. `room`: where the photos are taken."""

    ref: str
    home: str
    habit: Habit
    confusion: tuple[str, str] | None
    language: str
    sloppiness: float  #: in [0, 1]: typos, abbreviations, missing words
    room: int


class Sellers:
    """All sellers of a market, found by what they sell."""

    def __init__(self, goods: Goods, n_listings: int, seed: int) -> None:
        self.goods = goods
        n = max(len({leaf.root for leaf in goods.leaves.values()}) * 2, n_listings // LISTINGS_PER_SELLER)
        self.all = [_seller(goods, at, seed) for at in range(n)]
        self._at_home: dict[str, list[Seller]] = {}
        self._confused: dict[str, list[Seller]] = {}
        for seller in self.all:
            self._at_home.setdefault(seller.home, []).append(seller)
            if seller.confusion is not None:
                self._confused.setdefault(seller.confusion[0], []).append(seller)

    def of(self, leaf: Leaf, dice: Dice) -> Seller:
        """Who puts up a thing of this leaf. A few sellers have many listings; confused ones have what confuses them."""
        if leaf.key in self._confused and dice.hit(CONFUSED_SHARE):
            return _active(self._confused[leaf.key], dice)
        return _active(self._at_home.get(leaf.root, self.all) if dice.hit(AT_HOME) else self.all, dice)


def _active(sellers: Sequence[Seller], dice: Dice) -> Seller:
    """The first of the list sell most."""
    return sellers[int(len(sellers) * dice.random() ** 1.8)]


def _seller(goods: Goods, at: int, seed: int) -> Seller:
    dice = Dice.of(seed, "seller", at)
    leaf = goods.leaves[dice.weighted(list(goods.popularity), list(goods.popularity.values()))]
    habit = _drawn(SHARES, dice)
    return Seller(
        ref=f"seller-{at:05d}",
        home=leaf.root,
        habit=habit,
        confusion=(leaf.key, dice.pick(leaf.near[:2])) if habit is Habit.CONFUSED else None,
        language=_drawn(LANGUAGES, dice),
        sloppiness=dice.betavariate(1.2, 4.0) if habit is Habit.CAREFUL else dice.betavariate(2.0, 3.0),
        room=dice.randrange(1_000),
    )


def _drawn(shares: Mapping[T, float], dice: Dice) -> T:
    return dice.weighted(list(shares), list(shares.values()))
