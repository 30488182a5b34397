"""Titles per second and core of both token modes, beside plain ways to number words.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.tokens --data ../shared/data/gumtree

`--data` is a folder with a ``listings.csv`` (columns title, description); without one the sample catalog is
made. CPU time of the best of `--repeats` passes over distinct titles, from the raw string to the array;
cleaning is part of ours. Rivals keep no array of positions, or one id per word.
"""

import argparse
import csv
import re
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

from curation.catalog import sample
from curation.catalog.pieces import read_pieces
from curation.catalog.tokens import TokenConfig, Tokenizer
from curation.types import Listing

WORD = re.compile(r"\w+")
N_BUCKETS = 1 << 17


def main() -> None:
    options = _options()
    rows = _rows(options.data, options.n)
    titles = list(dict.fromkeys(title for title, _ in rows))
    start = time.process_time()
    pieces = Tokenizer.fit((text for row in rows for text in row), TokenConfig(pieces=options.pieces))
    print(f"vocabulary of {len(rows):,} listings: {time.process_time() - start:.2f} s CPU, {pieces.n_ids:,} ids", end=", ")
    characters = np.mean([len(title) for title in titles])
    print(f"file of {len(pieces.to_bytes()):,} bytes; {len(titles):,} distinct titles of {characters:.0f} characters\n")
    tokenizers = {"sentencepiece": pieces, "hashed": Tokenizer(TokenConfig(mode="hashed", n_buckets=N_BUCKETS))}
    _speeds(tokenizers, rows, titles, options.repeats)
    _lengths(tokenizers, rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/gumtree"))
    parser.add_argument("--n", type=int, default=5000, help="listings read, or made")
    parser.add_argument("--pieces", type=int, default=16_000)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def _rows(folder: Path, n: int) -> list[tuple[str, str]]:
    """(title, description) of n listings."""
    with tempfile.TemporaryDirectory() as made:
        if not (folder / "listings.csv").is_file():
            folder = Path(made)
            sample.generate(folder, n=n, seed=1, photos=False)
        with (folder / "listings.csv").open(encoding="utf-8", newline="") as file:
            return [(row["title"], row["description"]) for row, _ in zip(csv.DictReader(file), range(n), strict=False)]


def _speeds(tokenizers: dict[str, Tokenizer], rows: Sequence[tuple[str, str]], titles: list[str], repeats: int) -> None:
    alone = [_listing(title, "") for title in titles]
    whole = [_listing(*row) for row in rows]
    reader = read_pieces(tokenizers["sentencepiece"].model)
    characters = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=N_BUCKETS)
    words = HashingVectorizer(n_features=N_BUCKETS)
    passes: list[tuple[str, str, int, Callable[[], object]]] = []
    for mode, one in tokenizers.items():
        passes.append(
            (f"ours, {mode}", "(N, L) ids" if mode == "sentencepiece" else "(N, L, 8) ids", len(alone), _of(one, alone))
        )
    passes += [
        ("sentencepiece alone", "lists", len(titles), lambda: reader.encode(titles, num_threads=1)),
        ("crc32 of words, plain Python", "lists", len(titles), lambda: [_word_ids(title) for title in titles]),
        ("sklearn HashingVectorizer, words", "no order", len(titles), lambda: words.transform(titles)),
        ("sklearn HashingVectorizer, char_wb 3-5", "no order", len(titles), lambda: characters.transform(titles)),
    ]
    passes += [
        (f"ours, {mode}, with description", "whole listings", len(whole), _of(one, whole)) for mode, one in tokenizers.items()
    ]
    print(f"{'':42}{'gives':>16}{'titles/s':>12}")
    for name, gives, n, run in passes:
        print(f"{name:42}{gives:>16}{n / _cpu_s(run, repeats):>12,.0f}")
    for mode, one in tokenizers.items():
        print(
            f"one listing, {mode}: {1000 * _cpu_s(lambda one=one: [one.transform([row]) for row in whole[:200]], 1) / 200:.2f} ms"
        )


def _of(tokenizer: Tokenizer, listings: list[Listing]) -> Callable[[], object]:
    return lambda: tokenizer.transform(listings).ids


def _lengths(tokenizers: dict[str, Tokenizer], rows: Sequence[tuple[str, str]]) -> None:
    print(f"\n{'':42}{'mean positions':>16}{'cut':>12}")
    for mode, one in tokenizers.items():
        field = one.transform([_listing(*row) for row in rows]).field
        for number, (name, length) in enumerate(one.config.blocks[:2], 1):
            counts = (field == number).sum(1)
            print(f"{f'{mode}, {name} of {length}':42}{counts.mean():>16.1f}{(counts == length).mean():>12.1%}")


def _word_ids(title: str) -> list[int]:
    return [zlib.crc32(word.encode()) % N_BUCKETS for word in WORD.findall(title.lower())]


def _listing(title: str, description: str) -> Listing:
    return Listing(1, "r", None, title, description, None, None, {}, (), None, (), "g", None)


def _cpu_s(run: Callable[[], object], repeats: int) -> float:
    """CPU seconds of the fastest pass."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


if __name__ == "__main__":
    main()
