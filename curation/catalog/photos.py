"""Photos as small square arrays, decoded once and kept in memory-mapped segments."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from curation import telemetry
from curation.catalog import segments
from curation.errors import IntegrityError, NotFoundError
from curation.store.files import FileStore

MIN_SEGMENT = 64
"""Fewer new photos than this are decoded again next time rather than written as a file of their own."""

N_THREADS = 2
MIN_THREADED = 16
"""For fewer photos, such as those of one listing, starting threads costs more than they save."""

log = telemetry.logger("photos")
Pixels = NDArray[np.uint8]


class PhotoCache:
    """Decoded photos by sha256, in immutable files `<px>-*.npy` under `root`; None keeps nothing.

    Several processes may share the folder; photos of a file that cannot be read are decoded again.
    """

    def __init__(self, root: Path | None, px: int) -> None:
        self.root, self.px = root, px
        self._dtype = np.dtype([("sha256", "S64"), ("pixels", np.uint8, (px, px, 3))])

    def load(self, shas: Sequence[Sequence[str]], n_views: int, media: FileStore) -> tuple[Pixels, NDArray[np.int32]]:
        """Distinct photos (1 + P, px, px, 3), the first blank, and their rows per listing (N, n_views), 0 = missing or broken."""
        wanted = list(dict.fromkeys(sha for row in shas for sha in row))
        found = self._cached(set(wanted))
        fresh = self._decode([sha for sha in wanted if sha not in found], media)
        self._keep(fresh)
        found |= fresh
        if masked := [sha for sha in wanted if sha not in found]:
            log.warning("photos masked: not in the store, or damaged there", n=len(masked), of=len(wanted), first=masked[0])
        rows = {sha: row for row, sha in enumerate((sha for sha in wanted if sha in found), start=1)}
        photos = np.zeros((1 + len(rows), self.px, self.px, 3), np.uint8)
        for sha, row in rows.items():
            photos[row] = found[sha]
        index = np.zeros((len(shas), n_views), np.int32)
        for at, names in enumerate(shas):
            present = [rows[sha] for sha in names if sha in rows]
            index[at, : len(present)] = present
        return photos, index

    def _cached(self, wanted: set[str]) -> dict[str, Pixels]:
        found: dict[str, Pixels] = {}
        for segment in segments.stored(self.root, str(self.px), self._dtype) if self.root else ():
            names = np.char.decode(np.asarray(segment["sha256"]), "ascii").tolist()
            found |= {sha: segment["pixels"][row] for row, sha in enumerate(names) if sha in wanted}
        return found

    def _decode(self, shas: Sequence[str], media: FileStore) -> dict[str, Pixels]:
        if len(shas) < MIN_THREADED:
            found = {sha: self._one(sha, media) for sha in shas}
            return {sha: pixels for sha, pixels in found.items() if pixels is not None}
        with ThreadPoolExecutor(N_THREADS) as pool:  # Pillow releases the GIL while it decodes
            decoded = pool.map(lambda sha: self._one(sha, media), shas)
            return {sha: pixels for sha, pixels in zip(shas, decoded, strict=True) if pixels is not None}

    def _one(self, sha256: str, media: FileStore) -> Pixels | None:
        try:
            return square(media.get(sha256, ".jpg"), self.px)
        except (NotFoundError, IntegrityError, UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
            return None

    def _keep(self, fresh: dict[str, Pixels]) -> None:
        if self.root is None or len(fresh) < MIN_SEGMENT:
            return
        segment = np.zeros(len(fresh), self._dtype)
        segment["sha256"] = [sha.encode() for sha in fresh]
        segment["pixels"] = list(fresh.values())
        segments.store(self.root, str(self.px), segment)


def square(data: bytes, px: int) -> Pixels:
    """A JPEG as (px, px, 3) RGB, the whole picture fit inside, centred on grey. Raises what Pillow raises."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        image.draft("RGB", (px, px))
        small = image.convert("RGB")
    small.thumbnail((px, px), Image.Resampling.BILINEAR)
    canvas = np.full((px, px, 3), 128, np.uint8)
    top, left = (px - small.height) // 2, (px - small.width) // 2
    canvas[top : top + small.height, left : left + small.width] = np.asarray(small)
    return canvas
