"""What holds of token sequences whatever the text is."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.catalog.pieces import MIN_PIECES
from curation.catalog.tokens import TokenConfig, Tokenizer
from curation.catalog.words import clean, words_of
from curation.errors import InputError
from curation.types import Listing

CONFIG = TokenConfig(title=6, description=9, attributes=5, title_limit_chars=40, pieces=MIN_PIECES, min_count=1)
CORPUS = ["garden rake", "中古自転車 赤", "자전거 팝니다", "دراجة هوائية", "красный велосипед", "かわいい 👍", "size 12, 20 £"]
ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=60) | st.sampled_from(
    [*CORPUS, "\ud800", "\x00", "<unk>", "▁", "▅"]
)
LISTINGS = st.builds(
    Listing,
    id=st.just(1),
    ref=ANY_TEXT,
    seller_ref=st.none(),
    title=ANY_TEXT,
    description=ANY_TEXT,
    price=st.none() | st.floats(),
    currency=st.none() | ANY_TEXT,
    attributes=st.dictionaries(ANY_TEXT, ANY_TEXT | st.none() | st.integers() | st.booleans() | st.floats(), max_size=4),
    photos=st.just(()),
    category=st.none(),
    flags=st.just(()),
    group_key=st.just("g"),
    listed_at=st.none(),
)


@cache
def tokenizer(mode: str) -> Tokenizer:
    """One of each mode."""
    return Tokenizer.fit(CORPUS, replace(CONFIG, mode=mode))


@pytest.mark.parametrize("mode", ["sentencepiece", "hashed"])
@given(listings=st.lists(LISTINGS, max_size=4))
def test_any_text_gives_right_shapes_and_ids_in_range(mode: str, listings: list[Listing]) -> None:
    """No exception, no wrong length, no id out of range; padding comes last in a field and is where `field` is 0."""
    one = tokenizer(mode)
    found = one.transform(listings)
    assert found.index.shape == found.field.shape == (len(listings), CONFIG.width)
    assert found.ids.shape[2:] == (() if mode == "sentencepiece" else (CONFIG.n_hashes,))
    assert ((found.ids >= 0) & (found.ids < one.n_ids)).all()
    first = found.ids if mode == "sentencepiece" else found.ids[..., 0]
    assert np.array_equal(first > 0, found.field > 0)
    title = found.field[:, : CONFIG.title]
    assert (np.diff((title > 0).astype(int)) <= 0).all()


@pytest.mark.parametrize("mode", ["sentencepiece", "hashed"])
@given(listing=LISTINGS)
def test_text_that_can_be_seen_has_a_token(mode: str, listing: Listing) -> None:
    """A title is masked if and only if nothing is left of it."""
    found = tokenizer(mode).transform([listing])
    assert found.field[0, : CONFIG.title].any() == bool(clean(listing.title, CONFIG.title_limit_chars))


@given(ANY_TEXT, st.integers(0, 50))
def test_words_are_what_is_in_the_text(text: str, limit: int) -> None:
    """Every character but spaces is in a word, and cleaning is bounded and final."""
    cleaned = clean(text, limit)
    assert len(cleaned) <= limit and set(cleaned.replace(" ", "")) <= set("".join(words_of(cleaned, 10_000)))


@settings(max_examples=25)
@given(st.lists(ANY_TEXT, max_size=8), st.integers(1, 3))
def test_any_texts_give_a_vocabulary_or_say_why_not(texts: list[str], min_count: int) -> None:
    """The trainer's own errors never come through; the same texts in another order give the same bytes."""
    config = replace(CONFIG, min_count=min_count)
    try:
        fitted = Tokenizer.fit(texts, config)
    except InputError:
        assert min_count > 1 or not any(clean(text, 60).strip(" ▅") for text in texts)
        return
    assert fitted.to_bytes() == Tokenizer.fit(texts[::-1], config).to_bytes()
    assert Tokenizer.from_bytes(fitted.to_bytes()).n_ids == fitted.n_ids
