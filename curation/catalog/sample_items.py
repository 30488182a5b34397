"""What is put up for sale: the truth about every listing, before its seller picks a category."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from curation.catalog.sample_dice import Dice
from curation.catalog.sample_goods import Goods, Leaf
from curation.catalog.sample_sellers import Seller, Sellers

BLOCK_ROWS = 500
"""Listings drawn together: class sizes and the share of wrong labels hold in every block."""

REPOST_SHARE = 0.06
REMEMBERED_ROWS = 1_500
"""Listings of earlier blocks that may be put up again; bounds the memory."""

SAME_SELLER = 0.7
BARGAIN_SHARE = 0.06
CONDITION_FACTORS = {"new": 1.45, "like new": 1.2, "very good": 1.05, "good": 0.95, "used": 0.75, "for parts": 0.3}
CONDITION_SHARES = (0.08, 0.2, 0.25, 0.24, 0.19, 0.04)
N_PHOTOS = {0: 0.05, 1: 0.35, 2: 0.33, 3: 0.18, 4: 0.09}


class Clarity(StrEnum):
    """How much the text says about what the thing is."""

    #: names it
    CLEAR = "clear"
    #: names its kind, which several leaves share
    PARTIAL = "partial"
    #: says nothing; photo, brand and price decide
    VAGUE = "vague"


CLARITY_SHARES = {Clarity.CLEAR: 0.82, Clarity.PARTIAL: 0.13, Clarity.VAGUE: 0.05}


@dataclass(frozen=True, slots=True)
class Item:
    """One thing as it is offered."""

    row: int
    leaf: Leaf
    seller: Seller
    author: Seller  #: who wrote the text and took the photos; another seller may have copied them
    clarity: Clarity
    brand: str
    colour: str
    condition: str
    price_eur: float | None
    violations: frozenset[str]
    n_photos: int
    original_row: int  #: row whose text and photos these are; = row unless it is put up again
    shown: Leaf  #: what the photos show; another leaf than `leaf` if they mislead
    repost_category: str | None = None  #: the category of the original, if the same seller puts it up again

    @property
    def is_repost(self) -> bool:
        return self.original_row != self.row


@dataclass(frozen=True, slots=True)
class Posted:
    """An item and the leaf its seller picked."""

    item: Item
    given: Leaf


class Market:
    """Draws items block by block and remembers the newest for reposts."""

    def __init__(self, goods: Goods, sellers: Sellers, seed: int) -> None:
        self.goods, self.sellers, self.seed = goods, sellers, seed
        self._posted: deque[Posted] = deque(maxlen=REMEMBERED_ROWS)

    def blocks(self, n: int) -> Iterator[list[Item]]:
        """Lists of at most 500 items, n in all. The caller tells `remember` before it takes the next."""
        for first in range(0, n, BLOCK_ROWS):
            size = min(BLOCK_ROWS, n - first)
            dice = Dice.of(self.seed, "block", first)
            keys = list(self.goods.popularity)
            drawn = [keys[at] for at in dice.systematic(list(self.goods.popularity.values()), size)]
            dice.shuffle(drawn)
            yield [self._item(first + at, self.goods.leaves[key]) for at, key in enumerate(drawn)]

    def remember(self, posted: list[Posted]) -> None:
        self._posted.extend(one for one in posted if not one.item.is_repost)

    def _item(self, row: int, leaf: Leaf) -> Item:
        dice = Dice.of(self.seed, "item", row)
        if self._posted and dice.hit(REPOST_SHARE):
            return self._again(dice.pick(self._posted), row, dice)
        violations = _violations(self.goods, leaf, dice)
        condition = dice.weighted(list(CONDITION_FACTORS), CONDITION_SHARES)
        if "counterfeit" in violations:
            condition = dice.pick(("new", "new", "like new"))
        seller = self.sellers.of(leaf, dice)
        misleads = "misleading_photo" in violations
        n_photos = dice.weighted(list(N_PHOTOS), list(N_PHOTOS.values()))
        return Item(
            row=row,
            leaf=leaf,
            seller=seller,
            author=seller,
            clarity=dice.weighted(list(CLARITY_SHARES), list(CLARITY_SHARES.values())),
            brand=dice.pick(leaf.brands) if leaf.brands and dice.hit(0.9) else "",
            colour=dice.pick(leaf.colours),
            condition=condition,
            price_eur=_price(leaf, condition, violations, dice),
            violations=violations,
            n_photos=max(n_photos, 1) if misleads else n_photos,
            original_row=row,
            shown=_elsewhere(self.goods, leaf, dice) if misleads else leaf,
        )

    def _again(self, posted: Posted, row: int, dice: Dice) -> Item:
        """The same thing put up once more, cheaper; by the same seller or by somebody who copied it."""
        item = posted.item
        same = dice.hit(SAME_SELLER)
        return replace(
            item,
            row=row,
            seller=item.seller if same else self.sellers.of(item.leaf, dice),
            price_eur=None if item.price_eur is None else rounded(item.price_eur * dice.uniform(0.8, 1.0)),
            repost_category=posted.given.key if same else None,
        )


def _violations(goods: Goods, leaf: Leaf, dice: Dice) -> frozenset[str]:
    """Seldom two at once: each is drawn by itself."""
    return frozenset(policy.name for policy in goods.policies if dice.hit(goods.chance(policy, leaf.key)))


def _elsewhere(goods: Goods, leaf: Leaf, dice: Dice) -> Leaf:
    """A leaf that looks different."""
    return dice.pick([other for other in goods.leaves.values() if other.root != leaf.root and other.shape != leaf.shape])


def _price(leaf: Leaf, condition: str, violations: frozenset[str], dice: Dice) -> float | None:
    """EUR. Forgeries are cheap for their condition, but so are honest bargains; some say 1 or nothing."""
    median, spread = leaf.price
    price = dice.lognormal(median, spread * 0.75) * CONDITION_FACTORS[condition]
    if "counterfeit" in violations:
        price *= dice.uniform(0.12, 0.45)
    elif dice.hit(BARGAIN_SHARE):
        price *= dice.uniform(0.2, 0.5)
    if dice.hit(0.04):
        return dice.pick((None, 1.0))
    return rounded(price)


def rounded(price_eur: float) -> float:
    """As people write prices: halves below 10, whole euros below 100, then steps of 5."""
    if price_eur < 10:
        return max(0.5, round(price_eur * 2) / 2)
    return float(round(price_eur)) if price_eur < 100 else 5.0 * round(price_eur / 5)
