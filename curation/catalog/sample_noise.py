"""Which category a seller picks, and which violations users report: where the sample's labels go wrong.

A mistake depends on the seller's habit, on how clear the thing is, and on its leaf. All chances
are scaled together until they add up to the wanted share, so the mix stays and only the amount
changes.
"""

from collections.abc import Mapping, Sequence

from curation.catalog.sample_dice import Dice
from curation.catalog.sample_goods import Goods, Leaf
from curation.catalog.sample_items import Clarity, Item
from curation.catalog.sample_sellers import Habit
from curation.types import VIOLATIONS

HABIT_FACTORS: Mapping[Habit, float] = {Habit.CAREFUL: 0.3, Habit.CARELESS: 2.2, Habit.CONFUSED: 0.7, Habit.LAZY: 1.8}
CONFUSED_FACTOR = 6.0
"""Of a confused seller, for things of the leaf that confuses them."""

CLARITY_FACTORS: Mapping[Clarity, float] = {Clarity.CLEAR: 0.9, Clarity.PARTIAL: 1.1, Clarity.VAGUE: 1.3}
REPEATED_FACTOR = 8.0
"""Of a seller who puts a thing up again that was wrong the first time."""

MAX_CHANCE = 0.85

REPORT_RECALL = 0.6
FALSE_REPORT_SHARE = 0.02
WRONG_REASON_SHARE = 0.12


class Menu:
    """What sellers see when they pick a category."""

    def __init__(self, goods: Goods, seed: int) -> None:
        self.goods = goods
        self._by_root: dict[str, list[Leaf]] = {}
        for leaf in sorted(goods.leaves.values(), key=lambda leaf: leaf.path):
            self._by_root.setdefault(leaf.root, []).append(leaf)
        self._difficulty = {key: Dice.of(seed, "difficulty", key).uniform(0.5, 1.6) for key in goods.leaves}

    def given(self, items: Sequence[Item], noise: float, dice: Dice) -> list[Leaf]:
        """The leaf picked for each item; round(noise * N) of them are wrong, in expectation as `propensity` says."""
        chances = scaled([self.propensity(item) for item in items], noise)
        wrong = set(dice.systematic(chances, round(sum(chances))))
        return [self._mistake(item, dice) if at in wrong else item.leaf for at, item in enumerate(items)]

    def propensity(self, item: Item) -> float:
        """How easily this seller gets this item wrong, relative to others; above 0."""
        if item.repost_category is not None:
            return REPEATED_FACTOR if item.repost_category != item.leaf.key else 0.2
        seller = item.seller
        factor = HABIT_FACTORS[seller.habit]
        if seller.confusion is not None and seller.confusion[0] == item.leaf.key:
            factor = CONFUSED_FACTOR
        return factor * CLARITY_FACTORS[item.clarity] * self._difficulty[item.leaf.key]

    def _mistake(self, item: Item, dice: Dice) -> Leaf:
        """Another leaf than the true one."""
        seller, leaf, leaves = item.seller, item.leaf, self.goods.leaves
        if item.repost_category not in (None, leaf.key):
            return leaves[str(item.repost_category)]
        if seller.confusion is not None and seller.confusion[0] == leaf.key:
            return leaves[seller.confusion[1]]
        if seller.habit is Habit.LAZY and (found := self._first(leaf)) is not leaf:
            return found
        if seller.habit is Habit.CARELESS and dice.hit(0.3):
            pool = self._by_root[leaf.root] if dice.hit(0.6) else list(leaves.values())
            return dice.pick([other for other in pool if other is not leaf] or [leaves[leaf.near[0]]])
        near = leaf.near[:4]
        return leaves[dice.weighted(near, [1 / (1 + rank) for rank in range(len(near))])]

    def _first(self, leaf: Leaf) -> Leaf:
        """The root's "Other" leaf, or the first of its menu."""
        menu = self._by_root[leaf.root]
        return next((other for other in menu if " / Other" in other.path), menu[0])


def scaled(weights: Sequence[float], share: float) -> list[float]:
    """Chances in proportion to the weights, at most 0.85 each, whose mean is `share` (bisection)."""
    low, high = 0.0, 1.0 / min(weights)
    for _ in range(60):
        middle = (low + high) / 2
        total = sum(min(MAX_CHANCE, middle * weight) for weight in weights)
        low, high = (middle, high) if total < share * len(weights) else (low, middle)
    return [min(MAX_CHANCE, high * weight) for weight in weights]


def flags(item: Item, dice: Dice) -> tuple[str, ...]:
    """What users reported: a violation is missed, misnamed or made up now and then."""
    found = set()
    for name in sorted(item.violations):
        if dice.hit(REPORT_RECALL):
            found.add(dice.pick(VIOLATIONS) if dice.hit(WRONG_REASON_SHARE) else name)
    if not item.violations and dice.hit(FALSE_REPORT_SHARE):
        found.add(dice.pick(VIOLATIONS))
    return tuple(sorted(found))
