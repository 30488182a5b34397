"""What the sample catalog is made of: dice, goods, mistakes and drawings."""

from collections import Counter

import pytest
from PIL import Image, ImageChops

from curation.catalog import sample_goods, sample_noise, sample_photos
from curation.catalog.sample_dice import Dice
from curation.catalog.sample_noise import Menu
from curation.catalog.sample_pen import Paint, Pen
from curation.types import VIOLATIONS


def test_systematic_draws_keep_their_shares() -> None:
    """A share of m draws comes floor(m) or ceil(m) times."""
    weights = [5.0, 1.0, 2.5, 0.25]
    for seed in range(20):
        counts = Counter(Dice.of(seed).systematic(weights, 35))
        for index, weight in enumerate(weights):
            assert abs(counts[index] - 35 * weight / sum(weights)) < 1


def test_streams_differ_by_name_and_repeat() -> None:
    """The same key gives the same numbers, another key others."""
    assert Dice.of(1, "a", 2).random() == Dice.of(1, "a", 2).random() != Dice.of(1, "b", 2).random()


def test_every_neighbour_and_shape_exists() -> None:
    """Leaves name only leaves that there are, never themselves, and drawings that there are."""
    goods = sample_goods.load()
    for key, leaf in goods.leaves.items():
        assert leaf.near and key not in leaf.near and set(leaf.near) <= set(goods.leaves)
        assert leaf.shape in sample_photos.SHAPES and leaf.nouns and leaf.traits
    assert {leaf.shape for leaf in goods.leaves.values()} == set(sample_photos.SHAPES)


def test_policies_are_the_products_own() -> None:
    """Six violations, and each keeps its share of all listings whatever leaves it occurs in."""
    goods = sample_goods.load()
    assert tuple(policy.name for policy in goods.policies) == VIOLATIONS
    for policy in goods.policies:
        expected = sum(goods.popularity[key] * goods.chance(policy, key) for key in goods.leaves)
        assert expected == pytest.approx(policy.share)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5])
def test_chances_are_scaled_to_the_share(share: float) -> None:
    """Their mean is the share, their order stays, none is above the bound."""
    weights = [0.1, 0.5, 1.0, 3.0, 9.0]
    chances = sample_noise.scaled(weights, share)
    assert sum(chances) / len(chances) == pytest.approx(share, abs=1e-6)
    assert chances == sorted(chances) and max(chances) <= sample_noise.MAX_CHANCE


def test_a_lazy_seller_takes_other_or_the_first_entry() -> None:
    """Of the menu under the thing's root."""
    menu, leaves = Menu(sample_goods.load(), seed=1), sample_goods.load().leaves
    assert menu._first(leaves["headphones"]) is leaves["other_electronics"]
    assert menu._first(leaves["kids_bikes"]) is leaves["car_seats"]


@pytest.mark.parametrize("name", sorted(sample_photos.SHAPES))
def test_each_shape_draws_something_inside_the_picture(name: str) -> None:
    """And the same thing again for the same dice."""
    leaf = next(leaf for leaf in sample_goods.load().leaves.values() if leaf.shape == name)
    for seed in range(6):
        pictures = [_drawn(leaf, seed) for _ in range(2)]
        assert pictures[0].tobytes() == pictures[1].tobytes()
        box = ImageChops.difference(pictures[0], Image.new("RGB", (200, 200), "white")).getbbox()
        assert box is not None and box[2] - box[0] > 40 and box[3] - box[1] > 40
        assert min(box) > 0 and max(box) < 200


def _drawn(leaf: sample_goods.Leaf, seed: int) -> Image.Image:
    picture, dice = Image.new("RGB", (200, 200), "white"), Dice.of(seed)
    pen = Pen(picture, at=(100, 100), scale_px=80, turn=0.0, squeeze=1.0, lean=0.0)
    sample_photos.SHAPES[leaf.shape](pen, Paint.mixed("red", dice), leaf.look, dice)
    return picture
