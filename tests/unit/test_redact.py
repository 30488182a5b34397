"""Secrets never reach the inbox."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.labelstudio.redact import redact

CORPUS = Path(__file__).parent.parent / "corpus" / "labelstudio"


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*_*ed*.json")), ids=lambda path: path.stem)
def test_project_secrets_are_gone_and_nothing_else(path: Path) -> None:
    """The project's token and password are replaced; all other fields are as they were."""
    before = json.loads(path.read_bytes())
    after = json.loads(redact(path.read_bytes()))
    for key in ("token", "task_data_password"):
        assert after["project"].pop(key) == "REDACTED"
        before["project"].pop(key)
    assert after == before


def test_access_token_of_a_backend_set_up_is_gone() -> None:
    """The project creator's token that `/setup` carries is replaced."""
    assert redact(b'{"access_token": "abc\\"def", "schema": "x"}') == b'{"access_token": "REDACTED", "schema": "x"}'


@given(st.binary())
def test_bodies_that_are_not_json_pass(body: bytes) -> None:
    """Any bytes may come; without a secret's key they stay as they are."""
    assert redact(body) == body or b"token" in body or b"password" in body


@given(st.dictionaries(st.text(), st.text()))
def test_texts_that_speak_of_tokens_stay(texts: dict[str, str]) -> None:
    """What sellers write is never altered, also if it looks like JSON."""
    body = json.dumps({"title": json.dumps({"token": "mine"}), "data": {f"d-{key}-": value for key, value in texts.items()}})
    assert redact(body.encode()) == body.encode()


def test_eight_megabytes_take_less_than_a_tenth_of_the_answer_time() -> None:
    """A bulk delivery is redacted well within the second after which Label Studio gives up."""
    body = json.dumps([{"id": i, "data": {"text": 'say "token" ' * 100}, "token": "x"} for i in range(6000)]).encode()
    started_s = time.perf_counter()
    redact(body)
    assert len(body) > 8e6
    assert time.perf_counter() - started_s < 0.5
