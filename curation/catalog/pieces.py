"""A vocabulary of pieces for mixed languages: a sentencepiece unigram model with byte fallback (Kudo, ACL 2018).

The model is bytes; it depends on the set of texts only, not on their order or repetition.
"""

import heapq
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
import sentencepiece

from curation.catalog.words import clean, crc
from curation.errors import InputError, IntegrityError

N_BYTES = 257  # pieces of single bytes, and the unknown one
MIN_PIECES = 512  # those and characters
PIECE_TAG = 0x0A  # field 1 of a ModelProto
RESERVED = frozenset(" ▅")  # space is a mark of its own; the trainer skips texts with its mark of the unknown
CHUNK = 4096  # texts encoded at once


def fit_pieces(texts: Iterable[str], n_pieces: int, min_count: int, limit_chars: int, n_texts: int) -> bytes:
    """The model of at most `n_pieces` pieces; fewer where the texts have fewer.

    Only the first `limit_chars` of a text are read, and at most `n_texts` distinct texts. Characters and
    pieces that occur less than `min_count` times in them are left to bytes or smaller pieces. Raises
    InputError where nothing occurs that often.
    """
    kept = _without_rare_characters(_sample(texts, limit_chars, n_texts), (n_pieces - N_BYTES) // 2, min_count)
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=chain(kept, _seeds(kept, min_count)),
        model_writer=out,
        model_type="unigram",
        vocab_size=n_pieces,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",  # `clean` did NFKC
        max_sentence_length=8 * limit_chars + 8,  # bytes
        num_threads=1,  # more would sum in another order each time
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        minloglevel=2,
    )
    return _without_rare_pieces(out.getvalue(), kept, min_count)


def read_pieces(model: bytes) -> sentencepiece.SentencePieceProcessor:
    """Encodes by this model. Raises IntegrityError on bytes that are none."""
    found = sentencepiece.SentencePieceProcessor()
    try:
        found.LoadFromSerializedProto(model)
    except RuntimeError:
        raise IntegrityError(f"{len(model)} bytes are no sentencepiece model; fit the tokenizer again") from None
    return found


def _sample(texts: Iterable[str], limit_chars: int, n_texts: int) -> list[str]:
    """Distinct cleaned texts in sorted order; of too many those whose hashes are smallest, whatever their order."""
    kept: set[str] = set()
    for text in texts:
        kept.add(clean(text, limit_chars))
        if len(kept) > 2 * n_texts:
            kept = _smallest(kept, n_texts)
    return sorted(_smallest(kept, n_texts) - {""})


def _smallest(texts: set[str], n: int) -> set[str]:
    return texts if len(texts) <= n else set(heapq.nsmallest(n, texts, key=lambda text: (crc(text), text)))


def _without_rare_characters(texts: Sequence[str], n_most: int, min_count: int) -> list[str]:
    """Texts in which only characters that may become pieces are left: the most frequent."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    by_count = sorted(counts.keys() - RESERVED, key=lambda one: (-counts[one], one))
    kept = {one for one in by_count[:n_most] if counts[one] >= min_count}
    if not kept:
        raise InputError(
            f"no character occurs {min_count} times in {len(texts)} distinct texts; "
            "give more texts, lower min_count, or use mode 'hashed', which needs no vocabulary"
        )
    rare = dict.fromkeys(map(ord, counts.keys() - kept - {" "}), " ")
    return [text.translate(rare) for text in texts] if rare else list(texts)


def _seeds(texts: Sequence[str], min_count: int) -> list[str]:
    """Each frequent word twice in a line of its own.

    The trainer proposes only substrings that are followed by different characters, so a word that is always
    followed by a space (or always last) would never be a piece; here it is followed by a space and by the end.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.split())
    return [f"{word} {word}" for word, n in sorted(counts.items()) if n >= min_count]


def _without_rare_pieces(model: bytes, texts: Sequence[str], min_count: int) -> bytes:
    """The model without the pieces that its texts use less than `min_count` times; single characters and bytes stay."""
    pieces = read_pieces(model)
    counts = np.zeros(pieces.get_piece_size(), np.int64)
    for at in range(0, len(texts), CHUNK):
        found = pieces.encode(list(texts[at : at + CHUNK]), num_threads=1)
        counts += np.bincount(np.fromiter(chain.from_iterable(found), np.int64), minlength=len(counts))
    number, kept = 0, []
    for tag, message in _messages(model):
        if tag != PIECE_TAG:
            kept.append(message)
            continue
        if number < N_BYTES or counts[number] >= min_count or len(pieces.id_to_piece(number)) == 1:
            kept.append(message)
        number += 1
    return b"".join(kept)


def _messages(model: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, bytes with tag and length) of a ModelProto's fields, each of which is length-delimited."""
    at = 0
    while at < len(model):
        start, at, length, shift = at, at + 1, 0, 0
        while model[at] & 0x80:
            length, at, shift = length | (model[at] & 0x7F) << shift, at + 1, shift + 7
        at += 1 + (length | model[at] << shift)
        yield model[start], model[start:at]
