"""The sample catalog: a second-hand marketplace made up from a seed, with its truth kept apart.

``listings.csv``, ``images/`` and ``mapping.toml`` are what the system sees; ``truth.csv`` is for
scoring only. The same n, seed and noise give the same bytes. Rows are written as they are made:
memory stays bounded at any n.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from curation.catalog import sample_goods, sample_noise, sample_truth
from curation.catalog.sample_dice import Dice
from curation.catalog.sample_items import Item, Market, Posted
from curation.catalog.sample_noise import Menu
from curation.catalog.sample_photos import Camera
from curation.catalog.sample_sellers import Sellers
from curation.catalog.sample_text import Writer
from curation.errors import InputError
from curation.types import join_violations

COLUMNS = (
    *("id", "seller", "title", "description", "price", "currency", "category"),
    *("brand", "condition", "colour", "flags", "photos", "listed_at"),
)
MAX_NOISE = 0.5
FIRST_LISTED_AT = datetime(2026, 1, 5, 6, tzinfo=UTC)
SPAN = timedelta(days=90)
KEPT = {"brand": 0.7, "condition": 0.88, "colour": 0.75}
"""Share of listings whose seller fills the field in."""

MAPPING = """# How `refurbish ingest` reads listings.csv. What is true is not in here: see truth.csv.
ref = "id"
seller = "seller"
title = "title"
description = "description"
price = "price"
currency = "currency"
listed_at = "listed_at"
attributes = ["brand", "condition", "colour"]

[category]
column = "category"
separator = " / "

[photos]
column = "photos"
separator = "|"
folder = "images"

[flags]
column = "flags"
separator = "|"
"""


@dataclass(frozen=True, slots=True)
class Summary:
    """What was made."""

    n_listings: int
    n_photos: int
    n_sellers: int
    n_leaves: int
    n_wrong: int  #: listings whose seller picked a wrong category
    noise: float  #: n_wrong / n_listings
    n_reposts: int
    n_reported: int
    violations: dict[str, int]  #: listings by true violation
    out: str


def generate(out: Path, *, n: int, seed: int, noise: float = 0.15, photos: bool = True) -> Summary:
    """Write a catalog of `n` listings into folder `out`. `noise`: share of wrong categories, in [0, 0.5].

    `photos=False` leaves the photos out and their column empty. Raises InputError if `out` holds files already.
    """
    if n < 1 or not 0 <= noise <= MAX_NOISE:
        raise InputError(
            f"a sample of {n} listings with noise {noise} cannot be made; n is at least 1, noise in [0, {MAX_NOISE}]"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already and not an empty folder; name a new one")
    images = out / "images"
    images.mkdir(parents=True, exist_ok=True)
    (out / "mapping.toml").write_text(MAPPING, "utf-8", newline="\n")
    maker = _Maker(n, seed, noise, images if photos else None)
    with (
        (out / "listings.csv").open("w", encoding="utf-8", newline="") as listed,
        sample_truth.writing(out / "truth.csv") as truth,
    ):
        table = csv.DictWriter(listed, COLUMNS, lineterminator="\n")
        table.writeheader()
        for posted in maker.posted():
            table.writerow(maker.row(posted))
            truth.write(_truth(posted))
    return maker.summary(out)


class _Maker:
    """Rows from the rooms beside this one, and the counts of what they gave."""

    def __init__(self, n: int, seed: int, noise: float, images: Path | None) -> None:
        self.n, self.seed, self.noise, self.images = n, seed, noise, images
        self.goods = sample_goods.load()
        self.sellers = Sellers(self.goods, n, seed)
        self.market = Market(self.goods, self.sellers, seed)
        self.menu = Menu(self.goods, seed)
        self.writer = Writer(self.goods, seed)
        self.camera = Camera(self.goods, seed) if images else None
        self.counts: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        self.sellers_seen: set[str] = set()

    def posted(self) -> Iterator[Posted]:
        for items in self.market.blocks(self.n):
            given = self.menu.given(items, self.noise, Dice.of(self.seed, "mistakes", items[0].row))
            block = [Posted(item, leaf) for item, leaf in zip(items, given, strict=True)]
            self.market.remember(block)
            for one in block:
                self._count(one)
                yield one

    def row(self, posted: Posted) -> dict[str, Any]:
        """The listing as everybody sees it."""
        item = posted.item
        dice = Dice.of(self.seed, "row", item.row)
        title, description = self.writer.write(item)
        reported = sample_noise.flags(item, dice)
        self.counts["reported"] += bool(reported)
        listed_at = FIRST_LISTED_AT + SPAN * ((item.row + dice.random()) / self.n)
        return {
            "id": ref(item.row),
            "seller": item.seller.ref,
            "title": title,
            "description": description,
            "price": "" if item.price_eur is None else f"{item.price_eur:g}",
            "currency": "EUR",
            "category": posted.given.path,
            **{name: getattr(item, name) if dice.hit(share) else "" for name, share in KEPT.items()},
            "flags": "|".join(reported),
            "photos": "|".join(self._store_photos(item)),
            "listed_at": listed_at.isoformat(timespec="seconds"),
        }

    def summary(self, out: Path) -> Summary:
        counts = self.counts
        return Summary(
            n_listings=self.n,
            n_photos=counts["photos"],
            n_sellers=len(self.sellers_seen),
            n_leaves=len(self.goods.leaves),
            n_wrong=counts["wrong"],
            noise=counts["wrong"] / self.n,
            n_reposts=counts["reposts"],
            n_reported=counts["reported"],
            violations=dict(sorted(self.violations.items())),
            out=str(out),
        )

    def _store_photos(self, item: Item) -> Iterable[str]:
        if self.camera is None or self.images is None:
            return
        for at, jpeg in enumerate(self.camera.photos(item), 1):
            name = f"{ref(item.row)}-{at}.jpg"
            (self.images / name).write_bytes(jpeg)
            self.counts["photos"] += 1
            yield name

    def _count(self, posted: Posted) -> None:
        item = posted.item
        self.counts["wrong"] += posted.given is not item.leaf
        self.counts["reposts"] += item.is_repost
        self.violations.update(item.violations)
        self.sellers_seen.add(item.seller.ref)


def ref(row: int) -> str:
    """The id of a row of the catalog."""
    return f"L{row + 1:06d}"


def _truth(posted: Posted) -> sample_truth.Row:
    item = posted.item
    return sample_truth.Row(
        id=ref(item.row),
        category=item.leaf.path,
        violation=join_violations(set(item.violations)),
        is_wrong=posted.given is not item.leaf,
        repost_of=ref(item.original_row) if item.is_repost else "",
    )
