"""Listing → token sequences, order kept: the input of the searched text branch. numpy and sentencepiece only, no torch.

Two modes. ``sentencepiece`` has a vocabulary that is fit on texts: unigram pieces with byte fallback
(Kudo, ACL 2018), so no text is unknown. ``hashed`` has none: a position is a word, or a window of
characters in scripts without spaces, given as several hash buckets (Bojanowski et al., TACL 2017) of
which most survive a disguise: accents, letters of other alphabets, digits for letters, dots between.
As in `features`, the seller's category is never an input.
"""

import dataclasses
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.catalog.features import MAX_ATTRIBUTE_CHARS, PRICE_BAND
from curation.catalog.pieces import MIN_PIECES, fit_pieces, read_pieces
from curation.catalog.sidecar import TOKENS_SUFFIX
from curation.catalog.words import clean, crc, hashes_of, words_of
from curation.errors import ConfigError, IntegrityError, shorten
from curation.store.files import FileStore
from curation.types import Listing

VERSION = 1
"""Raised whenever the same listing would give other ids; a model names the version it was fit on."""

MODES = ("sentencepiece", "hashed")
FIELDS = ("title", "description", "attributes", "price")  #: field n + 1 in `Tokens.field`
PRICE_TOKENS = 2  # band, currency
N_BANDS = 48
N_CURRENCIES = 31
FIRST_TEXT = 1 + N_BANDS + N_CURRENCIES
"""First id of text. Below: 0 padding, then price bands, then hashed currencies."""

FORMAT = "refurbish-tokens"
MAX_ATTRIBUTES = 64
MAX_BUCKETS = 1 << 30
CHUNK = 4096  # listings encoded at once

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TokenConfig:
    """What the sequences look like. Lengths are positions per field; the fields lie side by side."""

    version: int = VERSION
    mode: str = "sentencepiece"  #: or ``hashed``
    title: int = 32
    description: int = 72
    attributes: int = 22
    title_limit_chars: int = 200  #: text beyond is not read
    description_limit_chars: int = 600
    attributes_limit_chars: int = 400
    pieces: int = 16_000  #: sentencepiece: most pieces of the vocabulary; fewer where the texts have fewer
    min_count: int = 5  #: sentencepiece: occurrences in distinct texts below which a piece is dropped
    fit_texts: int = 400_000  #: sentencepiece: most distinct texts that a vocabulary is fit on
    n_buckets: int = 1 << 17  #: hashed: buckets
    n_hashes: int = 8  #: hashed: buckets a position has

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"token mode {shorten(self.mode)} is unknown; use one of {', '.join(MODES)}")
        if self.pieces < MIN_PIECES:
            raise ConfigError(f"pieces is {self.pieces}; a vocabulary with byte fallback needs {MIN_PIECES} or more")
        if self.n_buckets > MAX_BUCKETS:
            raise ConfigError(f"n_buckets is {self.n_buckets}; ids are 32 bit, use {MAX_BUCKETS} or fewer")

    @property
    def blocks(self) -> tuple[tuple[str, int], ...]:
        """(name, length) of each field, in column order."""
        return tuple(zip(FIELDS, (self.title, self.description, self.attributes, PRICE_TOKENS), strict=True))

    @property
    def width(self) -> int:
        """Columns of `ids`."""
        return sum(length for _, length in self.blocks)

    def to_json(self) -> dict[str, int | str]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TokenConfig":
        """The config of a file. Raises IntegrityError on unknown keys, bad values or another version."""
        known = {field.name: field.type for field in dataclasses.fields(cls)}
        bad = sorted(set(values) ^ set(known)) or [key for key, kind in known.items() if not _is_valid(values[key], kind)]
        if values.get("version", VERSION) != VERSION:
            raise IntegrityError(f"tokenizer is of version {shorten(values['version'])}, this is {VERSION}; fit it again")
        if bad:
            raise IntegrityError(f"tokenizer config has missing, unknown or bad keys {shorten(bad)}; fit the tokenizer again")
        try:
            return cls(**values)
        except ConfigError as error:
            raise IntegrityError(f"tokenizer config cannot be used: {error}; fit the tokenizer again") from None


def _is_valid(value: object, kind: object) -> bool:
    return isinstance(value, str) if kind is str else type(value) is int and value >= 1


@dataclass(frozen=True, slots=True)
class Tokens:
    """Sequences of N listings. A position points to a row of `table`; without a table the pointer is the id."""

    refs: tuple[str, ...]
    index: Ids  #: (N, L) ids, or rows of `table`; 0 = padding
    table: Ids | None  #: (W, n_hashes) ids of each distinct token, row 0 and unused places 0; None in sentencepiece mode
    blocks: tuple[tuple[str, int], ...]  #: (name, length) of each field, in column order
    n_ids: int  #: every id is below this

    def __len__(self) -> int:
        return len(self.refs)

    @property
    def ids(self) -> Ids:
        """(N, L), or (N, L, n_hashes) in hashed mode; 0 = padding. Large in hashed mode: prefer `inputs`."""
        return self.index if self.table is None else self.table[self.index]

    @property
    def field(self) -> NDArray[np.uint8]:
        """(N, L) number of the field, 1 = title as in FIELDS, 0 = padding."""
        return (self.index > 0) * self.columns

    @property
    def columns(self) -> NDArray[np.uint8]:
        """(L,) number of the field of each position, from 1."""
        return np.repeat(np.arange(1, len(self.blocks) + 1, dtype=np.uint8), [length for _, length in self.blocks])

    def inputs(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The text inputs of these rows: ``tokens`` (B, L) or (B, L, n_hashes), ``token_fields`` (B, L)."""
        part = dataclasses.replace(self, refs=tuple(self.refs[row] for row in rows), index=self.index[rows])
        return {"tokens": part.ids, "token_fields": part.field}


class Tokenizer:
    """Deterministic; its state is a config and, in sentencepiece mode, the model's bytes."""

    def __init__(self, config: TokenConfig | None = None, model: bytes = b"") -> None:
        """Without a model only ``hashed`` works; `fit` makes one. Raises IntegrityError on an unusable model."""
        self.config = config or TokenConfig(mode="hashed")
        self.model = model
        self._pieces = None if self.config.mode == "hashed" else read_pieces(model)

    @classmethod
    def fit(cls, texts: Iterable[str], config: TokenConfig | None = None) -> "Tokenizer":
        """A tokenizer with the vocabulary of these texts; their order and repetitions do not matter.

        Characters and pieces that occur less than `min_count` times in the distinct texts are left to
        bytes or smaller pieces. Raises InputError where nothing occurs that often.
        """
        config = config or TokenConfig()
        if config.mode == "hashed":
            return cls(config)
        return cls(config, fit_pieces(texts, config.pieces, config.min_count, config.description_limit_chars, config.fit_texts))

    @property
    def n_ids(self) -> int:
        """Every id is below this."""
        return FIRST_TEXT + (self.config.n_buckets if self._pieces is None else self._pieces.get_piece_size())

    def transform(self, listings: Sequence[Listing]) -> Tokens:
        """Sequences of these listings, in this order. What is missing is padding."""
        config = self.config
        index = np.zeros((len(listings), config.width), np.int32)
        numbers: defaultdict[str, int] = defaultdict()
        numbers.default_factory = lambda: len(numbers) + FIRST_TEXT
        for at in range(0, len(listings), CHUNK):
            part = listings[at : at + CHUNK]
            start = 0
            for texts, (_, length) in zip(zip(*map(self._texts, part), strict=True), config.blocks[:-1], strict=True):
                self._fill(index[at : at + CHUNK, start : start + length], texts, numbers)
                start += length
            index[at : at + CHUNK, start:] = [_price(listing) for listing in part]
        table = self._table(numbers) if self._pieces is None else None
        return Tokens(tuple(listing.ref for listing in listings), index, table, config.blocks, self.n_ids)

    def _texts(self, listing: Listing) -> tuple[str, str, str]:
        return texts_of(listing, self.config)

    def _fill(self, block: Ids, texts: Sequence[str], numbers: Mapping[str, int]) -> None:
        """Write one field of a chunk of listings into its columns."""
        width = block.shape[1]
        if self._pieces is None:
            words = [words_of(text, width) for text in texts]
            _write(block, [len(one) for one in words], map(numbers.__getitem__, chain.from_iterable(words)))
        else:
            found = [one[:width] for one in self._pieces.encode(list(texts), num_threads=1)]
            _write(block, [len(one) for one in found], chain.from_iterable(found), FIRST_TEXT)

    def _table(self, words: Sequence[str] | Mapping[str, int]) -> Ids:
        """(W, n_hashes) ids: reserved ones as they are, then a row per word."""
        config = self.config
        table = np.zeros((FIRST_TEXT + len(words), config.n_hashes), np.int32)
        table[:FIRST_TEXT, 0] = np.arange(FIRST_TEXT)
        rows = [hashes_of(word, config.n_hashes) for word in words]
        _write(
            table[FIRST_TEXT:],
            [len(one) for one in rows],
            (value % config.n_buckets for value in chain.from_iterable(rows)),
            FIRST_TEXT,
        )
        return table

    def to_bytes(self) -> bytes:
        """A line of JSON, then the model: what `from_bytes` reads."""
        config = json.dumps(self.config.to_json(), sort_keys=True)
        digest = hashlib.sha256(config.encode() + self.model).hexdigest()
        return json.dumps({"format": FORMAT, "sha256": digest, "config": config}).encode() + b"\n" + self.model

    @classmethod
    def from_bytes(cls, data: bytes) -> "Tokenizer":
        """Inverse of `to_bytes`. Raises IntegrityError on other, damaged or another version's bytes."""
        head, _, model = data.partition(b"\n")
        try:
            header = json.loads(head)
            config, digest = header["config"], header["sha256"]
            values = json.loads(config)
            is_ours = header["format"] == FORMAT and isinstance(values, dict)
        except (ValueError, LookupError, TypeError, RecursionError):
            is_ours = False
        if not is_ours:
            raise IntegrityError(
                f"{shorten(data[:40])} does not begin a tokenizer file; restore it from a backup or fit it again"
            )
        if hashlib.sha256(config.encode("utf-8", "surrogatepass") + model).hexdigest() != digest:
            raise IntegrityError(f"tokenizer file ({len(data)} bytes) is damaged; restore it from a backup or fit it again")
        return cls(TokenConfig.from_json(values), model)

    def save(self, files: FileStore) -> str:
        """Store it and return its sha256."""
        return files.put(self.to_bytes(), TOKENS_SUFFIX)

    @classmethod
    def load(cls, files: FileStore, sha256: str) -> "Tokenizer":
        """The tokenizer of this sha256. Raises NotFoundError or IntegrityError."""
        return cls.from_bytes(files.get(sha256, TOKENS_SUFFIX))


def texts_of(listing: Listing, config: TokenConfig) -> tuple[str, str, str]:
    """Cleaned title, description and attributes of a listing: what a vocabulary is fit on."""
    attributes = " ".join(islice(_attributes(listing), MAX_ATTRIBUTES))
    return (
        clean(listing.title, config.title_limit_chars),
        clean(listing.description, config.description_limit_chars),
        clean(attributes, config.attributes_limit_chars),
    )


def _attributes(listing: Listing) -> Iterator[str]:
    for name, value in sorted(listing.attributes.items()):
        if value is not None and value != "" and not isinstance(value, Mapping):
            yield f"{name} {str(value)[:MAX_ATTRIBUTE_CHARS]}"


def _price(listing: Listing) -> tuple[int, int]:
    """Ids of the price band and the currency, 0 without a price."""
    price = listing.price
    if price is None or not 0 <= price < math.inf:
        return 0, 0
    band = min(int(math.log1p(price) / PRICE_BAND), N_BANDS - 1)
    currency = crc((listing.currency or "").casefold()) % N_CURRENCIES
    return 1 + band, 1 + N_BANDS + currency


def _write(block: Ids, lengths: Sequence[int], values: Iterable[int], offset: int = 0) -> None:
    """Write runs of these lengths, one after the other, to the beginnings of the rows."""
    counts = np.array(lengths, np.int64).reshape(-1, 1)
    block[np.arange(block.shape[1]) < counts] = np.fromiter(values, np.int64, int(counts.sum())) + offset
