"""Photos of the sample's things: drawn, several views of one thing, with clutter, light and noise of a home.

Leaves of one family share a drawing or look alike, so that a photo helps and seldom decides.
"""

import io
from collections.abc import Iterator, Mapping

from PIL import Image, ImageChops, ImageDraw, ImageFont

from curation.catalog import sample_shapes_home, sample_shapes_play, sample_shapes_tech, sample_shapes_wear
from curation.catalog.sample_dice import Dice
from curation.catalog.sample_goods import Goods, Leaf
from curation.catalog.sample_items import Item
from curation.catalog.sample_pen import INK, PAPER, Paint, Pen, Shape, shaded
from curation.catalog.sample_studio import Studio

SIZES_PX = ((192, 192), (224, 168), (168, 224), (240, 180), (180, 240), (160, 160))
OVERSAMPLING = 2
SHOWN_SHARE = 0.8
"""Share of violations that a photo of the listing shows."""

ROOMS = (sample_shapes_home, sample_shapes_play, sample_shapes_tech, sample_shapes_wear)
SHAPES: Mapping[str, Shape] = {shape.__name__: shape for room in ROOMS for shape in room.SHAPES}


class Camera:
    """Takes the photos of listings. `photos(item)` gives the same bytes whenever it is called."""

    def __init__(self, goods: Goods, seed: int) -> None:
        self.goods, self.seed = goods, seed
        self.studio = Studio(seed)
        self._font = ImageFont.load_default(15)

    def photos(self, item: Item) -> Iterator[bytes]:
        """JPEG bytes of each photo, the main one first. A repost has the original's, cropped anew or saved again."""
        for view in range(item.n_photos):
            picture = self._picture(item, view)
            if item.is_repost:
                picture = _taken_again(picture, Dice.of(self.seed, "crop", item.row, view))
            out = io.BytesIO()
            picture.save(out, "JPEG", quality=76 if item.is_repost else 82)
            yield out.getvalue()

    def _picture(self, item: Item, view: int) -> Image.Image:
        dice = Dice.of(self.seed, "photo", item.original_row, view)
        size = dice.pick(SIZES_PX)
        full = size[0] * OVERSAMPLING, size[1] * OVERSAMPLING
        told = Dice.of(self.seed, "shown", item.original_row).hit(SHOWN_SHARE)
        is_shop_photo = dice.hit(0.75 if told and "counterfeit" in item.violations else 0.06)
        canvas = self._place(full, item, dice, is_shop_photo=is_shop_photo)
        pen = _posed(canvas, view, dice)
        self._draw(pen, item.shown, item.colour, item.original_row)
        if told:
            _show_violations(pen, item, dice)
        photo = canvas.reduce(OVERSAMPLING)
        if not is_shop_photo:
            photo = ImageChops.multiply(photo, self.studio.light(size, dice))
        photo = ImageChops.add(photo, self.studio.grain(size, dice), 1.0, -128)
        if told and view == 0:
            self._write_over(photo, item, dice)
        return photo

    def _place(self, full: tuple[int, int], item: Item, dice: Dice, *, is_shop_photo: bool) -> Image.Image:
        """The background with a shadow, and sometimes with other things lying about."""
        if is_shop_photo:
            return self.studio.white.crop((0, 0, *full))
        canvas = self.studio.background(full, item.author.room, dice)
        for _ in range(dice.weighted((0, 1, 2), (0.72, 0.2, 0.08))):
            other = self.goods.leaves[dice.pick(item.shown.near) if dice.hit(0.3) else dice.pick(list(self.goods.leaves))]
            at = dice.pick((0.08, 0.92)) * full[0], dice.uniform(0.1, 0.9) * full[1]
            pen = Pen(
                canvas, at=at, scale_px=min(full) * dice.uniform(0.14, 0.22), turn=dice.gauss(0, 0.5), squeeze=1.0, lean=0.0
            )
            self._draw(pen, other, dice.pick(other.colours), dice.randrange(1 << 30))
        return canvas

    def _draw(self, pen: Pen, leaf: Leaf, colour: str, thing: int) -> None:
        """The thing of this number: the same in every view."""
        dice = Dice.of(self.seed, "thing", thing)
        SHAPES[leaf.shape](pen, Paint.mixed(colour, dice), leaf.look, dice)

    def _write_over(self, photo: Image.Image, item: Item, dice: Dice) -> None:
        """Words on the photo: a number to call, or a mark that it is for adults."""
        draw = ImageDraw.Draw(photo)
        if "off_platform_contact" in item.violations and dice.hit(0.5):
            top = dice.uniform(0.05, 0.8) * photo.height
            draw.rectangle((6, top, photo.width - 6, top + 22), PAPER)
            draw.text((12, top + 2), f"0{dice.randrange(150, 180)} {dice.randrange(10**6, 10**7)}", INK, self._font)
        if "adult_content" in item.violations:
            draw.ellipse((8, 8, 46, 46), (196, 30, 40))
            draw.text((12, 18), "18+", PAPER, self._font)


def _posed(canvas: Image.Image, view: int, dice: Dice) -> Pen:
    """Views: from the front, from the side, a detail, and any way up. Under the thing lies its shadow."""
    wide, high = canvas.size
    scale = min(wide, high) * dice.uniform(0.34, 0.44) * (1.7 if view == 2 else 1.0)
    off = 0.16 if view == 2 else 0.06
    at = wide * (0.5 + dice.uniform(-off, off)), high * (0.5 + dice.uniform(-off, off))
    turn = dice.gauss(0, 0.08) if view != 3 else dice.uniform(-1.2, 1.2)
    squeeze = dice.uniform(0.55, 0.8) if view == 1 else dice.uniform(0.9, 1.1)
    lean = dice.gauss(0, 0.05) + (dice.uniform(-0.18, 0.18) if view == 1 else 0.0)
    shadow = Image.new("L", (8, 8), 0)
    ImageDraw.Draw(shadow).ellipse((1, 2, 6, 5), 110)
    box = int(at[0] - scale * 1.25), int(at[1] + scale * 0.2), int(at[0] + scale * 1.25), int(at[1] + scale * 1.3)
    mask = shadow.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BILINEAR)
    canvas.paste((24, 22, 20), box, mask)
    return Pen(canvas, at=at, scale_px=scale, turn=turn, squeeze=squeeze * dice.pick((-1, 1)), lean=lean)


def _show_violations(pen: Pen, item: Item, dice: Dice) -> None:
    """Damage on unsafe things, a forbidden thing beside, a bar over what is not shown."""
    if "unsafe_product" in item.violations:
        x, y = dice.uniform(-0.5, 0.2), dice.uniform(-0.4, 0.2)
        pen.disc(x + 0.2, y + 0.2, 0.3, (58, 42, 32), high=0.24)
        pen.line(((x, y - 0.3), (x + 0.12, y), (x - 0.02, y + 0.15), (x + 0.2, y + 0.5)), 0.06, (20, 18, 18))
    if "prohibited_item" in item.violations:
        _forbidden(pen, dice)
    if "adult_content" in item.violations:
        y = dice.uniform(-0.2, 0.2)
        pen.box(-0.75, y - 0.13, 0.75, y + 0.13, (8, 8, 8))


def _forbidden(pen: Pen, dice: Dice) -> None:
    """A knife, a bottle of pills or a pack."""
    kind = dice.randrange(3)
    if kind == 0:
        pen.poly(((0.3, 0.45), (1.0, 0.2), (1.05, 0.3), (0.35, 0.6)), (206, 210, 216))
        pen.poly(((0.35, 0.42), (0.4, 0.62), (-0.05, 0.78), (-0.1, 0.6)), INK)
    elif kind == 1:
        pen.box(0.45, 0.3, 0.85, 0.9, (210, 120, 40), cut=0.06)
        pen.box(0.42, 0.18, 0.88, 0.34, PAPER)
        pen.box(0.48, 0.5, 0.82, 0.75, PAPER)
    else:
        pen.box(0.4, 0.2, 0.85, 0.9, (236, 234, 228))
        pen.box(0.4, 0.2, 0.85, 0.5, (178, 34, 40))
        pen.line(((0.5, 0.75), (0.75, 0.75)), 0.06, shaded(INK, 1.5))


def _taken_again(picture: Image.Image, dice: Dice) -> Image.Image:
    """The same picture, or a slightly tighter crop of it at another size."""
    if dice.hit(0.5):
        return picture
    wide, high = picture.size
    left, top = dice.randrange(1, 7), dice.randrange(1, 7)
    cropped = picture.crop((left, top, wide - dice.randrange(1, 7), high - dice.randrange(1, 7)))
    factor = dice.uniform(0.9, 1.1)
    return cropped.resize((int(wide * factor), int(high * factor)), Image.Resampling.BILINEAR)
