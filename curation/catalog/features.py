"""Listing → arrays, the same way in training and in serving. numpy and Pillow only, no vocabulary file.

Text becomes hashed word 1-2-grams and character 3-5-grams, title and description apart, and word
1-2-grams of both together; attributes and the price band become tokens. The seller's category is
never an input of the category head, which would learn to copy the label that it is there to doubt.
Violations may be asked with it, as a number of its own that may be missing.
"""

import dataclasses
import json
import math
import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curation.catalog.kinds import Kinds
from curation.catalog.photos import PhotoCache
from curation.errors import IntegrityError, shorten
from curation.store.files import FileStore
from curation.types import Listing

if TYPE_CHECKING:
    from curation.catalog.tokens import Tokenizer, Tokens

VERSION = 1
"""Raised whenever the same listing would give other arrays; a model names the version it was fit on."""

WORD = re.compile(r"\w+")
SPACES = re.compile(r"\s+")
DIGITS = re.compile(r"\d")
PRIME = np.uint64(0x100000001B3)  # FNV-1a, 64 bit
OFFSET = np.uint64(0xCBF29CE484222325)
MIXERS = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))  # MurmurHash3 finaliser
CHAR_NGRAMS = (3, 4, 5)
PRICE_BAND = 0.5  # width of a price token, in natural logarithms: a factor of 1.65
MAX_ATTRIBUTE_CHARS = 64
NUMERIC = ("log_price", "has_price", "log_title_words", "log_description_words", "n_photos")

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class FeatureConfig:
    """What the arrays look like. Lengths are ids kept per block, in order of appearance."""

    version: int = VERSION
    n_buckets: int = 1 << 16  #: hash buckets; id 0 is padding
    title_words: int = 64
    title_chars: int = 256
    description_words: int = 384
    description_chars: int = 512
    all_words: int = 384
    attributes: int = 32
    title_limit_chars: int = 200  #: text beyond is not read
    description_limit_chars: int = 2000
    description_char_ngram_limit_chars: int = 400  #: character n-grams of its beginning only
    photo_px: int = 48  #: side of a square view
    n_views: int = 4  #: photos of a listing that are read

    @property
    def blocks(self) -> tuple[tuple[str, int], ...]:
        """(name, length) of each block of ids, in column order."""
        names = ("title_words", "title_chars", "description_words", "description_chars", "all_words", "attributes")
        return tuple((name, getattr(self, name)) for name in names)

    @property
    def width(self) -> int:
        """Columns of `ids`."""
        return sum(length for _, length in self.blocks)

    def to_json(self) -> dict[str, int]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "FeatureConfig":
        """The config of a sidecar. Raises IntegrityError on unknown keys, bad values or another version."""
        known = {field.name for field in dataclasses.fields(cls)}
        bad = sorted(set(values) ^ known) or [key for key, value in values.items() if type(value) is not int or value < 1]
        if bad:
            raise IntegrityError(f"featurizer config has missing, unknown or bad keys {shorten(bad)}; export the model again")
        if values["version"] != VERSION:
            raise IntegrityError(f"model was fit on featurizer version {values['version']}, this is {VERSION}; retrain")
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Features:
    """Arrays of N listings; photos are stored once and pointed to."""

    refs: tuple[str, ...]
    ids: Ids  #: (N, width) hash buckets, blocks side by side, 0 = padding
    counts: NDArray[np.uint8]  #: (N, width) occurrences, capped at 255
    numeric: NDArray[np.float32]  #: (N, 5) as named in NUMERIC
    photos: NDArray[np.uint8]  #: (1 + P, px, px, 3) distinct photos; the first is blank
    photo_index: Ids  #: (N, n_views) row of `photos`, 0 = missing
    tokens: "Tokens | None" = None  #: the texts in order, where the model reads them so
    said: Ids | None = None  #: (N,) number of the seller's category (`Kinds`), where violations are asked with it

    def __len__(self) -> int:
        return len(self.refs)

    def inputs(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The exported model's inputs for these rows, by name, with only the photos they need."""
        used, index = np.unique(np.append(self.photo_index[rows].ravel(), 0), return_inverse=True)
        return {
            "ids": self.ids[rows],
            "counts": self.counts[rows],
            "numeric": self.numeric[rows],
            "photos": self.photos[used],
            "photo_index": index[:-1].reshape(len(rows), -1).astype(np.int32),
            **(self.tokens.inputs(rows) if self.tokens is not None else {}),
            **({"said": self.said[rows]} if self.said is not None else {}),
        }


class Featurizer:
    """Deterministic, without state but its config, and a tokenizer for models that read texts in order.

    `kinds`: for models whose violations are asked with the seller's category.
    """

    def __init__(
        self, config: FeatureConfig | None = None, tokenizer: "Tokenizer | None" = None, kinds: Kinds | None = None
    ) -> None:
        self.config, self.tokenizer, self.kinds = config or FeatureConfig(), tokenizer, kinds

    def to_json(self) -> str:
        return json.dumps(self.config.to_json(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Featurizer":
        """Inverse of `to_json`. Raises IntegrityError."""
        return cls(FeatureConfig.from_json(json.loads(text)))

    def transform(self, listings: Sequence[Listing], media: FileStore, cache: PhotoCache | None = None) -> Features:
        """Arrays of these listings, in this order. A photo that is missing or broken is masked."""
        config = self.config
        ids = np.zeros((len(listings), config.width), np.int32)
        counts = np.zeros((len(listings), config.width), np.uint8)
        numeric = np.zeros((len(listings), len(NUMERIC)), np.float32)
        for row, listing in enumerate(listings):
            numeric[row] = self._text(listing, ids[row], counts[row])
        shas = [tuple(photo.sha256 for photo in listing.photos[: config.n_views]) for listing in listings]
        photos, index = (cache or PhotoCache(None, config.photo_px)).load(shas, config.n_views, media)
        numeric[:, -1] = (index > 0).sum(1)
        tokens = self.tokenizer.transform(listings) if self.tokenizer else None
        said = np.array([self.kinds.of(one.category) for one in listings], np.int32) if self.kinds else None
        return Features(tuple(listing.ref for listing in listings), ids, counts, numeric, photos, index, tokens, said)

    def _text(self, listing: Listing, ids: Ids, counts: NDArray[np.uint8]) -> tuple[float, ...]:
        """Fill one row; its numbers."""
        config = self.config
        title = normalize(listing.title[: config.title_limit_chars])
        description = normalize(listing.description[: config.description_limit_chars])
        words = WORD.findall(title), WORD.findall(description)
        hashes = (
            _word_ngrams(words[0], "tw"),
            _char_ngrams(title, "tc"),
            _word_ngrams(words[1], "dw"),
            _char_ngrams(description[: config.description_char_ngram_limit_chars], "dc"),
            _word_ngrams(words[0] + words[1], "w"),
            _hashed([f"a:{token}" for token in attribute_tokens(listing)]),
        )
        start = 0
        for found, (_, length) in zip(hashes, config.blocks, strict=True):
            kept, n_times = _counted(found, config.n_buckets, length)
            ids[start : start + len(kept)] = kept
            counts[start : start + len(kept)] = n_times
            start += length
        price = listing.price
        logs = (math.log1p(len(words[0])), math.log1p(len(words[1])))
        return (0.0 if price is None else math.log1p(price), float(price is not None), *logs, 0.0)


def normalize(text: str) -> str:
    """NFKC, casefolded, whitespace runs as one space, none at the ends."""
    return SPACES.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def attribute_tokens(listing: Listing) -> Iterator[str]:
    """Tokens of currency, price band and attributes: ``brand=acme``, ``brand:acme`` per word of long values."""
    if listing.currency:
        yield f"currency={listing.currency.casefold()}"
    if listing.price is not None:
        yield f"price={listing.currency or ''}{int(math.log1p(listing.price) / PRICE_BAND)}"
    for name, value in sorted(listing.attributes.items()):
        if value is None or value == "" or isinstance(value, Mapping):
            continue
        text = normalize(str(value)[:MAX_ATTRIBUTE_CHARS])
        yield f"{name.casefold()}={text}"
        yield from (f"{name.casefold()}:{word}" for word in WORD.findall(text))


def _word_ngrams(words: Sequence[str], mark: str) -> NDArray[np.uint64]:
    """Hashes of words, of the digit shape of numbers, and of word pairs."""
    single = _hashed([f"{mark}:{word}" for word in words])
    shapes = _hashed([f"{mark}#{DIGITS.sub('0', word)}" for word in words if DIGITS.search(word)])
    return np.concatenate([single, shapes, _mix(single[:-1] * PRIME ^ single[1:])])


def _char_ngrams(text: str, mark: str) -> NDArray[np.uint64]:
    """Hashes of character 3-5-grams within words, each word padded by a space on both sides."""
    codes = np.frombuffer(f" {text} ".encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    is_space = codes == ord(" ")
    start = _hashed([mark])
    found = []
    for n in CHAR_NGRAMS:
        n_windows = len(codes) - n + 1
        if n_windows < 1:
            break
        hashes = np.repeat(start + np.uint64(n), n_windows)
        crosses = np.zeros(n_windows, bool)
        for at in range(n):
            hashes = (hashes ^ codes[at : at + n_windows]) * PRIME
            if 0 < at < n - 1:
                crosses |= is_space[at : at + n_windows]
        found.append(_mix(hashes[~crosses]))
    return np.concatenate(found) if found else np.zeros(0, np.uint64)


def _hashed(tokens: Sequence[str]) -> NDArray[np.uint64]:
    """64-bit hashes of strings: CRC-32 spread by a mixer; the same on every machine and version."""
    return _mix(np.array([zlib.crc32(token.encode("utf-8", "surrogatepass")) for token in tokens], np.uint64) ^ OFFSET)


def _mix(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    for mixer in MIXERS:
        hashes = (hashes ^ (hashes >> np.uint64(33))) * mixer
    mixed: NDArray[np.uint64] = hashes ^ (hashes >> np.uint64(33))
    return mixed


def _counted(hashes: NDArray[np.uint64], n_buckets: int, length: int) -> tuple[Ids, NDArray[np.uint8]]:
    """Distinct buckets in order of appearance with their counts, at most `length` of them."""
    buckets = (hashes % np.uint64(n_buckets - 1)).astype(np.int32) + 1
    unique, first, n_times = np.unique(buckets, return_index=True, return_counts=True)
    order = np.argsort(first, kind="stable")[:length]
    return unique[order].astype(np.int32), np.minimum(n_times[order], 255).astype(np.uint8)
