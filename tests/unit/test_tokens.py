"""Token sequences: order kept, the same on every machine, masks where something is missing."""

import hashlib
import json
import random
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from curation.catalog.pieces import MIN_PIECES, N_BYTES, read_pieces
from curation.catalog.tokens import FIELDS, FIRST_TEXT, Ids, TokenConfig, Tokenizer, Tokens, texts_of
from curation.catalog.words import clean, hashes_of, skeleton, words_of
from curation.errors import ConfigError, InputError, IntegrityError
from curation.store.files import FileStore
from curation.types import Listing

SMALL = TokenConfig(title=16, description=12, attributes=6, pieces=MIN_PIECES, min_count=2)
HASHED = replace(SMALL, mode="hashed", n_buckets=1 << 12)
WORDS = ("garden", "rake", "中古自転車", "자전거", "دراجة", "велосипед", "steel", "20", "かわいい", "👍")
RAKE = Listing(1, "r1", None, "Garden rake", "Steel, 20 teeth", 12.5, "GBP", {"brand": "Oakley"}, (), "Home", (), "g1", None)
GOLDEN_SHA256 = "97779753dd233f06aac2a3bcc8f18600f80013ce71cc7ce328c26458e32290b7"


def texts(n: int = 200) -> list[str]:
    """Made-up titles in several scripts."""
    draw = random.Random(1)
    return [" ".join(draw.choices(WORDS, k=4)) + f" {draw.choice('abcdef')}{at % 9}" for at in range(n)]


@pytest.fixture(scope="module")
def pieces() -> Tokenizer:
    """A vocabulary of the made-up titles."""
    return Tokenizer.fit(texts(), SMALL)


@pytest.fixture(params=["sentencepiece", "hashed"])
def tokenizer(request: pytest.FixtureRequest, pieces: Tokenizer) -> Tokenizer:
    """Each mode."""
    return pieces if request.param == "sentencepiece" else Tokenizer(HASHED)


def column(found: Tokens, name: str) -> Ids:
    """The ids of one field of the first listing, without padding."""
    return found.ids[0][found.field[0] == FIELDS.index(name) + 1]


def test_hashed_ids_are_golden() -> None:
    """The ids of a listing never change under one version: a released model depends on them."""
    found = Tokenizer(HASHED).transform([RAKE])
    assert hashlib.sha256(found.ids.tobytes() + found.field.tobytes()).hexdigest() == GOLDEN_SHA256


def test_arrays_have_the_promised_shapes(tokenizer: Tokenizer) -> None:
    """One row a listing, one column a position, one more axis for several hashes."""
    found = tokenizer.transform([RAKE, RAKE])
    assert found.index.shape == found.field.shape == (2, SMALL.width) == (2, 36)
    assert found.ids.shape == (2, 36) + ((8,) if tokenizer.config.mode == "hashed" else ())
    assert found.ids.dtype == np.int32 and found.field.dtype == np.uint8 and len(found) == 2


def test_order_is_kept(tokenizer: Tokenizer) -> None:
    """The same words the other way round are the same ids the other way round."""
    there, back = (column(tokenizer.transform([replace(RAKE, title=title)]), "title") for title in ("garden rake", "rake garden"))
    assert not np.array_equal(there, back) and sorted(there.ravel()) == sorted(back.ravel())


def test_neither_company_nor_chunk_matters(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing has the same ids alone, among others, and across a chunk's border."""
    alone = tokenizer.transform([RAKE]).ids[0]
    monkeypatch.setattr("curation.catalog.tokens.CHUNK", 2)
    others = [replace(RAKE, title=title, description="") for title in texts(4)]
    assert np.array_equal(tokenizer.transform([*others, RAKE]).ids[-1], alone)


def test_a_word_reads_the_same_in_every_field(tokenizer: Tokenizer) -> None:
    """Fields share ids; `field` tells them apart."""
    found = tokenizer.transform([replace(RAKE, title="rake", description="rake", attributes={})])
    assert np.array_equal(column(found, "title"), column(found, "description"))
    assert set(found.field[0]) == {0, 1, 2, 4}


def test_seller_category_is_no_input(tokenizer: Tokenizer) -> None:
    """Moving a listing to another category changes nothing that the model sees."""
    here, there = tokenizer.transform([RAKE, replace(RAKE, category="Toys", flags=("counterfeit",))]).ids
    assert np.array_equal(here, there)


def test_price_bands_are_ordered_and_told_by_currency(tokenizer: Tokenizer) -> None:
    """A band is a factor of 1.65; an unknown price is padding, a gift is not."""
    prices = (0.0, 12.5, 13.0, 1e300, None, float("nan"), -1.0)
    found = tokenizer.transform([replace(RAKE, price=price) for price in prices]).index[:, -2:]
    assert 0 < found[0, 0] < found[1, 0] == found[2, 0] < found[3, 0] < FIRST_TEXT and not found[4:].any()
    yen = tokenizer.transform([replace(RAKE, currency="JPY")]).index[0, -2:]
    assert yen[0] == found[1, 0] and yen[1] != found[1, 1]


def test_nested_and_empty_attributes_are_left_out() -> None:
    """What has no text is no token; a long value is cut."""
    listing = replace(RAKE, attributes={"b": None, "c": "", "d": {"e": 1}, "size": 12, "tags": "x" * 1000})
    assert texts_of(listing, TokenConfig())[2] == "size 12 tags " + "x" * 64


def test_nothing_known_is_all_padding(tokenizer: Tokenizer) -> None:
    """A listing without text, price and attributes is a row of zeros, and no listings are no rows."""
    found = tokenizer.transform([replace(RAKE, title="", description=" \u200b\n", price=None, attributes={})])
    assert not found.ids.any() and not found.field.any()
    assert tokenizer.transform([]).ids.shape[:2] == (0, SMALL.width)


@pytest.mark.parametrize(
    "title",
    ["\u0000", "\ud800", "😀", "👨‍👩‍👧", "ጤና ይስጥልኝ", "x" * 100_000, "中" * 100_000, "a " * 50_000, "ﷺ" * 300, "<unk> <0x41> ▁ ▅"],
)
def test_hostile_titles_are_cut_or_masked(tokenizer: Tokenizer, title: str) -> None:
    """Control characters, lone surrogates, emoji, unseen scripts and huge texts give arrays of the same shape."""
    found = tokenizer.transform([replace(RAKE, title=title)])
    assert found.index.shape == (1, SMALL.width) and found.ids.min() >= 0 and found.ids.max() < tokenizer.n_ids
    assert found.ids[:, : SMALL.title].any() == bool(clean(title, SMALL.title_limit_chars))


def test_text_beyond_the_limit_is_not_read() -> None:
    """Work is bounded before the text is normalised."""
    assert clean("ab" * 50_000, 5) == "ababa" and len(clean("ﷺ" * 100, 50)) == 50


def test_what_cannot_be_seen_is_dropped() -> None:
    """NFKC, case folding, no controls, joiners or soft hyphens."""
    assert clean("  Ｇar\u200bd\u00aden\x00\n ＲＡＫＥ\ud800\ufe0f ", 100) == "garden rake"


def test_unseen_characters_become_bytes(pieces: Tokenizer) -> None:
    """No text is unknown: a character that no piece covers is its UTF-8 bytes."""
    model = read_pieces(pieces.model)
    ids = column(pieces.transform([replace(RAKE, title="ጤ")]), "title") - FIRST_TEXT
    assert [model.is_byte(int(one)) for one in ids] == [False, True, True, True] and model.decode(ids.tolist()) == "ጤ"


def test_words_that_always_have_a_space_behind_are_pieces(pieces: Tokenizer) -> None:
    """The trainer alone would cut them into characters."""
    assert read_pieces(pieces.model).encode("garden 中古自転車 велосипед", out_type=str) == [
        "▁garden",
        "▁中古自転車",
        "▁велосипед",
    ]


def test_every_piece_is_used_often_enough(pieces: Tokenizer) -> None:
    """The vocabulary is bounded by its texts: rare pieces and characters are left out."""
    config = replace(SMALL, min_count=30)
    fitted = Tokenizer.fit([*texts(), "ß"], config)
    model = read_pieces(fitted.model)
    used = Counter(chain.from_iterable(model.encode([clean(text, 99) for text in texts()])))
    pieces_of_many = [number for number in range(N_BYTES, len(model)) if len(model.id_to_piece(number)) > 1]
    assert min(used[number] for number in pieces_of_many) >= 30 and "ß" not in map(model.id_to_piece, range(len(model)))
    assert FIRST_TEXT + N_BYTES < fitted.n_ids < pieces.n_ids <= FIRST_TEXT + MIN_PIECES


def test_vocabulary_depends_on_the_set_of_texts(pieces: Tokenizer) -> None:
    """Order and repetition change no byte, and neither does the sample of too many texts."""
    assert Tokenizer.fit([*reversed(texts()), *texts()], SMALL).to_bytes() == pieces.to_bytes()
    few = replace(SMALL, fit_texts=50)
    assert Tokenizer.fit(texts(), few).model == Tokenizer.fit(reversed(texts()), few).model != pieces.model


def test_fitting_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of sellers go through memory only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    Tokenizer.fit(texts(), SMALL)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("corpus", [[], [""], ["once"], ["▅▅▅▅"]])
def test_too_little_text_says_what_to_do(corpus: list[str]) -> None:
    """A vocabulary of nothing is refused, with the way out."""
    with pytest.raises(InputError, match="lower min_count, or use mode 'hashed'"):
        Tokenizer.fit(corpus, SMALL)


@pytest.mark.parametrize(
    "disguise", ["v1agra", "v.i.a.g.r.a", "v i a g r a", "viаgrа", "vïagra", "Ｖiagra", "vi\u200bagra", "v!@gra"]
)
def test_a_disguise_keeps_most_hashes(disguise: str) -> None:
    """Leet, dots, letters of other alphabets and accents leave all but the word's own hash."""
    (word,) = words_of(clean(disguise, 99), 9)
    assert skeleton(word) == "viagra" and len(set(hashes_of(word, 8)) & set(hashes_of("viagra", 8))) >= 7
    assert not set(hashes_of(word, 8)) & set(hashes_of("garden", 8))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("中古車 red bike", ["中古車", "古車", "車", "red", "bike"]),
        ("자전거 팝니다", ["자전거", "팝니다"]),
        ("دراجة هوائية", ["دراجة", "هوائية"]),
        ("हिन्दी 👍👍", ["हिन्दी", "👍", "👍"]),
        ("size 12, rm-30 ...", ["size", "12", ",", "rm", "-", "30", "..."]),
        ("w.h.a.t.s app", ["w.h.a.t.s", "app"]),
    ],
)
def test_positions_are_words_or_windows(text: str, words: list[str]) -> None:
    """Words where there are spaces, windows of three characters where there are none."""
    assert words_of(text, 9) == words and words_of(text, 2) == words[:2]


def test_inputs_are_rows_of_the_arrays(tokenizer: Tokenizer) -> None:
    """A batch has the ids and fields of its rows."""
    found = tokenizer.transform([replace(RAKE, title=title) for title in texts(5)])
    inputs = found.inputs(np.array([3, 1]))
    assert np.array_equal(inputs["tokens"], found.ids[[3, 1]]) and np.array_equal(inputs["token_fields"], found.field[[3, 1]])


def test_a_stored_tokenizer_gives_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Through the content-addressed store and back; no other file is left."""
    files = FileStore(tmp_path)
    sha256 = tokenizer.save(files)
    loaded = Tokenizer.load(files, sha256)
    assert np.array_equal(loaded.transform([RAKE]).ids, tokenizer.transform([RAKE]).ids)
    assert loaded.config == tokenizer.config and [path for path in tmp_path.rglob("*") if path.is_file()] == [
        files.path(sha256, ".tokens")
    ]


def test_damaged_files_are_refused(pieces: Tokenizer) -> None:
    """Cut off, changed, foreign or empty bytes never become a tokenizer (fault 48)."""
    data = pieces.to_bytes()
    cut, changed = data[:-100], data[:2000] + bytes([data[2000] ^ 1]) + data[2001:]
    for bad in (
        cut,
        changed,
        data.replace(b"min_count", b"max_count", 1),
        b"",
        b"[]\n",
        b"[" * 100_000,
        b"\xff\n",
        b'{"config": 1}\n',
    ):
        with pytest.raises(IntegrityError, match="restore it from a backup or fit it again"):
            Tokenizer.from_bytes(bad)


def test_a_file_of_another_version_is_refused(pieces: Tokenizer) -> None:
    """It is named, not guessed at, even when its settings are unknown (fault 48)."""
    config = json.dumps({"version": 2, "beam": 4})
    head = {"format": "refurbish-tokens", "config": config, "sha256": hashlib.sha256(config.encode()).hexdigest()}
    with pytest.raises(IntegrityError, match="of version 2, this is 1; fit it again"):
        Tokenizer.from_bytes(json.dumps(head).encode() + b"\n")


@pytest.mark.parametrize("model", [b"", b"xx", b"\n\x03abc"])
def test_a_model_that_is_none_is_refused(model: bytes) -> None:
    """Also where sentencepiece itself would accept it (fault 48)."""
    with pytest.raises(IntegrityError, match="fit the tokenizer again"):
        Tokenizer(SMALL, model)


@pytest.mark.parametrize(
    "change", [{"unknown": 1}, {"title": "8"}, {"title": 0}, {"mode": "bpe"}, {"mode": 1}, {"pieces": 9}, {"min_count": True}]
)
def test_foreign_config_is_refused(change: dict[str, object]) -> None:
    """Unknown, missing or bad settings are not guessed at (fault 48)."""
    assert TokenConfig.from_json(SMALL.to_json()) == SMALL
    with pytest.raises(IntegrityError, match="fit the tokenizer again"):
        TokenConfig.from_json({**SMALL.to_json(), **change})


def test_impossible_settings_say_what_is_possible() -> None:
    """A caller's own mistake is no damaged file."""
    with pytest.raises(ConfigError, match="sentencepiece, hashed"):
        TokenConfig(mode="bpe")
    with pytest.raises(ConfigError, match="512 or more"):
        TokenConfig(pieces=100)
    with pytest.raises(ConfigError, match="or fewer"):
        TokenConfig(n_buckets=1 << 31)
