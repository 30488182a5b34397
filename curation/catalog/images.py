"""Photos in: any JPEG, PNG or WebP becomes a small RGB JPEG, named by its content, with a hash of its look.

Rules: the EXIF orientation is applied and all metadata dropped; transparency becomes white; of an
animated or multi-picture file the first picture is taken; a file of more than 32 MiB, of more
than 40 megapixels, with a side under 8 px, or that paints itself over without end is refused before it is decoded.
"""

import io
import os
import re
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from curation.errors import ImageError, shorten
from curation.store.files import FileStore
from curation.types import Photo

MAX_SIDE_PX = 320
"""Long side of a stored photo: enough to judge an item by, 10-25 KB each."""

MIN_SIDE_PX = 8
MAX_PIXELS = 40_000_000
MAX_FILE_BYTES = 32 << 20
MAX_SCANS = 100
"""Passes of a progressive JPEG; encoders make ten. Each costs the time of a decoding, and sixty bytes are enough for one."""

MAX_SEGMENTS = 10_000
MARKER = re.compile(rb"\xff[\x01\xc0-\xcf\xd9-\xfe]")
END, SCAN = 0xD9, 0xDA
MAX_NAME_CHARS = 255
QUALITY = 85
FORMATS = ("JPEG", "PNG", "WEBP")
SUFFIX = ".jpg"

SCALABLE = ("RGB", "L", "RGBA", "LA", "CMYK")
"""Modes that are made small as they are; the others would mix palette numbers, not colours."""

# For the whole process, since filters set for a moment are not safe with threads.
warnings.simplefilter("error", Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", ".*(EXIF|Tag )", UserWarning, "PIL")  # broken metadata, which we drop anyway


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A re-encoded photo. `dhash`: 16 hex digits."""

    jpeg: bytes
    width_px: int
    height_px: int
    dhash: str


class PhotoError(ImageError):
    """One photo is unusable; `code` says why in one word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def store(media: FileStore, folder: Path, name: str) -> Photo:
    """Read, re-encode and store one photo of `folder`, a resolved path. Raises PhotoError."""
    made = thumbnail(read(folder, name), name)
    sha256 = media.put(made.jpeg, SUFFIX, durable=False)
    return Photo(sha256, made.width_px, made.height_px, made.dhash)


def read(folder: Path, name: str) -> bytes:
    """The bytes of a regular file inside `folder`; names that lead outside are refused."""
    path = _inside(folder, name)
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise PhotoError("missing", f"photo {shorten(name)} is not in {folder}") from None
    except (OSError, ValueError) as error:
        raise PhotoError("unreadable", f"photo {shorten(name)} cannot be read: {error}") from error
    info = os.fstat(handle)
    if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_FILE_BYTES:
        os.close(handle)
        if stat.S_ISREG(info.st_mode):
            raise PhotoError("too_large", f"photo {shorten(name)} has {info.st_size:,} bytes, {MAX_FILE_BYTES:,} are allowed")
        raise PhotoError("unreadable", f"photo {shorten(name)} is not a regular file")
    with os.fdopen(handle, "rb") as file:
        return file.read(MAX_FILE_BYTES)


def _inside(folder: Path, name: str) -> Path:
    if "://" in name:
        raise PhotoError("address", f"photo {shorten(name)} is an address; download it first and give the file's name")
    parts = PurePosixPath(name).parts
    odd = "\x00" in name or "\\" in name or ":" in name or len(name) > MAX_NAME_CHARS
    if not parts or odd or ".." in parts or parts[0] == "/":
        raise PhotoError("bad_name", f"photo name {shorten(name)} leads outside the image folder or is no file name")
    try:
        path = (folder / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise PhotoError("unreadable", f"photo name {shorten(name)} cannot be followed: {error}") from error
    if not path.is_relative_to(folder):
        raise PhotoError("bad_name", f"photo {shorten(name)} is a link that leads outside {folder}")
    return path


def thumbnail(data: bytes, name: str = "photo") -> Thumbnail:
    """The photo as a JPEG of at most 320 px. Raises PhotoError, and nothing else, on any bytes."""
    try:
        return _thumbnail(data, name)
    except PhotoError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise PhotoError("too_large", f"photo {shorten(name)} is far over {MAX_PIXELS / 1e6:.0f} megapixels") from None
    except UnidentifiedImageError:
        raise PhotoError("not_an_image", f"photo {shorten(name)} is not a JPEG, PNG or WebP picture") from None
    except Exception as error:  # decoders fail in a dozen ways on hostile bytes, and one photo must not stop a run
        raise PhotoError("damaged", f"photo {shorten(name)} cannot be decoded: {shorten(str(error))}") from error


def _thumbnail(data: bytes, name: str) -> Thumbnail:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if image.format == "JPEG" and n_scans(data) > MAX_SCANS:
            words = f"photo {shorten(name)} paints itself over more than {MAX_SCANS} times; save it anew"
            raise PhotoError("too_many_scans", words)
        if width * height > MAX_PIXELS:
            size = f"{width:,} x {height:,} pixels"
            raise PhotoError("too_large", f"photo {shorten(name)} has {size}, {MAX_PIXELS / 1e6:.0f} megapixels are allowed")
        if min(width, height) < MIN_SIDE_PX:
            raise PhotoError("too_small", f"photo {shorten(name)} is {width} x {height} px; nothing can be seen on it")
        share = min(1.0, MAX_SIDE_PX / max(width, height))
        image.draft(None, (max(1, int(width * share)), max(1, int(height * share))))  # JPEG: decode at 1/2, 1/4 or 1/8 right away
        exif = image.info.get("exif")
        full = image if image.mode in SCALABLE else image.convert("I") if image.mode.startswith("I") else _rgb(image)
        full.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.BICUBIC, reducing_gap=2.0)
        small = _upright(_rgb(full), exif)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=QUALITY)
    return Thumbnail(out.getvalue(), *small.size, dhash(small))


def n_scans(data: bytes) -> int:
    """How often a JPEG paints over its picture; one more than allowed as soon as it is too often, or has too many segments."""
    at, n = 2, 0
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(data, at)
        if found is None or data[found.start() + 1] == END or n > MAX_SCANS:
            return n
        n += data[found.start() + 1] == SCAN
        at = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2], "big"))
    return MAX_SCANS + 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; a plain convert would clip it to white
        wide = np.asarray(image.convert("I"), np.float64)
        return Image.fromarray((wide / 257).clip(0, 255).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _upright(image: Image.Image, exif: bytes | None) -> Image.Image:
    """Turned as the camera was held; an EXIF block that cannot be read is ignored."""
    image.info = {"exif": exif} if exif else {}
    try:
        found = ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block says nothing about the picture
        found = image
    found.info = {}
    return found


def dhash(image: Image.Image) -> str:
    """64-bit difference hash: is each of 8 x 8 grey cells brighter than its right neighbour? As 16 hex digits.

    Source: N. Krawetz, "Kind of Like That", hackerfactor.com, 2013.
    """
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.uint8)
    return np.packbits(grey[:, :-1] > grey[:, 1:]).tobytes().hex()
