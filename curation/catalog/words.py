"""Text → words and their hashes, without any vocabulary, in all scripts.

Cleaned text is what both modes of `tokens` read. Words, windows and hashes are the ``hashed`` mode.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from curation.catalog.features import CHAR_NGRAMS, normalize

WINDOW_CHARS = 3  # of a script without spaces
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""Controls, joiners, marks of direction, variants and fillers, lone surrogates, tags."""

SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
"""Thai, Lao, Burmese, Khmer, Kana, Bopomofo, Han."""
MARKS = (
    r"!-/:-@\[-`{-~\xa1-\xb4\xb6-\xbf\xd7\xf7\u2000-\u206f\u20a0-\u20cf\u2190-\u2bff\u3000-\u303f"
    r"\ufe10-\ufe6f\U0001f000-\U0001faff"
)
"""Punctuation, currency signs, arrows, symbols, emoji. The rest is part of a word, vowel signs too."""
LETTER = rf"[^\s{SPACELESS}{MARKS}0-9]"
CHAR = rf"[^\s{SPACELESS}{MARKS}]"
WORDS = re.compile(
    rf"{LETTER}(?:[ ._*·-]{LETTER}(?!{CHAR})){{2,30}}"  # letters set apart: w.h.a.t.s
    rf"|{CHAR}{{1,32}}(?:[@$!*|]{{1,2}}{CHAR}{{1,32}}){{0,3}}"  # words, with marks for letters: pa$$word
    rf"|[{SPACELESS}]+|[!-/:-@\[-`{{-~]{{1,8}}|\S"
)
SPACELESS_RUN = re.compile(f"[{SPACELESS}]")
NOISE = re.compile(r"[\W_]")
REPEATED = re.compile(r"([^\W\d])\1+")
DISGUISED = re.compile(r"(?<=[^\W\d])\d+(?=[^\W\d])")
LEET = str.maketrans("01345789", "oieastbg")
CONFUSABLE = str.maketrans("аеорсхукмтвніјѕԁαεορικτυν@$!|", "aeopcxykmtbhijsdaeopiktuvasii")  # Cyrillic, Greek, marks


def clean(text: str, limit_chars: int) -> str:
    """The beginning of a text: nothing that cannot be seen, NFKC, casefolded, single spaces."""
    text = text[:limit_chars]
    if not (text.isascii() and text.isprintable()):
        text = INVISIBLE.sub("", text).replace("▁", " ")  # sentencepiece means a space by it
    return normalize(text)[:limit_chars]


def words_of(text: str, length: int) -> list[str]:
    """The first `length` tokens of a cleaned text: words, symbols, and for each character of a spaceless script its window."""
    found: Iterable[str] = WORDS.findall(text)
    if SPACELESS_RUN.search(text):
        found = chain.from_iterable(_windows(word) if SPACELESS_RUN.match(word) else (word,) for word in found)
    return list(islice(found, length))


def _windows(run: str) -> Iterator[str]:
    return (run[at : at + WINDOW_CHARS] for at in range(len(run)))


def hashes_of(word: str, n: int) -> list[int]:
    """At most n hashes: of the word, of what is left of it without disguise, and of some of that's character n-grams.

    Which n-grams are kept depends on their hashes alone, so that two words keep the same ones of those they share
    (bottom-k sketch; Cohen & Kaplan, PODC 2007). A window has its beginnings instead.
    """
    if SPACELESS_RUN.match(word):
        return [crc(word[:end]) for end in range(len(word), 0, -1)][:n]
    plain = skeleton(word)
    if not plain:
        return [crc(word)]
    codes = f"<{plain}>".encode("utf-32-le", "surrogatepass")
    ends = range(0, len(codes) + 4, 4)
    ngrams = {zlib.crc32(codes[end - 4 * size : end]) for size in CHAR_NGRAMS for end in ends[size:]}
    return [crc(word), crc(f"~{plain}"), *sorted(ngrams)[: max(n - 2, 0)]][:n]


def skeleton(word: str) -> str:
    """A word without its disguise, shared with some other words: ``v1ägra`` → ``viagra``. Of numbers the length: ``0000``."""
    if not (word.isascii() and word.isalpha()):
        word = NOISE.sub("", unicodedata.normalize("NFKD", word).translate(CONFUSABLE))
        if word.isdecimal():
            return "0" * len(word)
        word = DISGUISED.sub(lambda found: found[0].translate(LEET), word)
    return REPEATED.sub(r"\1", word)


def crc(text: str) -> int:
    """The same on every machine and version."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))
