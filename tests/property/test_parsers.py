"""Every parser of what comes from outside: whatever the bytes, a result or one error of `curation.errors`."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.parsers import PARSERS, attempt

TRICKS = (
    b"",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\\ud800",
    b"\\u0000",
    b"\xed\xa0\x80",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5_000,
    b"0x" + b"f" * 5_000,
    b"[" * 990,
    b"[" * 300 + b"]" * 300,
    b'{"a":' * 940,
    b'{"a":' * 150 + b"1" + b"}" * 150,
    b'"a": 1, "a": 2,',
    b'"',
    b"'",
    b'"""',
    b"\r",
    b"\n" * 60,
    b"../../x",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"[[]]",
    b'{"id": 1}',
    b"-1",
    b"&x;",
    b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"PAR1",
    b"\xe2\x80\xae",
    b"=1+1",
    b"\x1b]0;x\x07",
    b'"\\u001b[2J" = 1\n',
    b'{"\\u001b[2J": 1}',
)
N_EXAMPLES = {"explore": 600}.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 25)
PROBED = settings(max_examples=N_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def changed(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """Bytes that were sound before up to three stretches of them were cut out or replaced by a trick; now and then, any bytes."""
    data = draw(st.sampled_from(seeds) | st.binary(max_size=300))
    for _ in range(draw(st.integers(0, 3))):
        at, length = draw(st.integers(0, len(data))), draw(st.sampled_from([0, 0, 1, 2, 7, 50]))
        data = data[:at] + draw(st.sampled_from(TRICKS) | st.binary(max_size=6)) + data[at + length :]
    return data


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_reads_what_is_sound(name: str, tmp_path: Path) -> None:
    """What the property begins with is no nonsense that would be refused at the first byte."""
    refused = {"state of a fit", "probabilities"}  # nothing small and sound can be written by hand
    read = [attempt(PARSERS[name], tmp_path, seed) for seed in PARSERS[name].seeds]
    assert None in read or name in refused


@pytest.mark.parametrize("name", PARSERS)
def test_each_trick_in_each_place_is_read_or_refused(name: str, tmp_path: Path) -> None:
    """In front of what is sound, in its middle, at its end and instead of it (faults 14, 15, 16)."""
    for seed in PARSERS[name].seeds[:2]:
        for trick in TRICKS:
            for data in (trick, trick + seed, seed[: len(seed) // 2] + trick + seed[len(seed) // 2 :], seed + trick):
                assert (attempt(PARSERS[name], tmp_path, data) or "fine").replace("\n", "").isprintable()


@PROBED
@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
def test_any_bytes_are_a_result_or_one_error_of_ours(name: str, tmp_path: Path, data: st.DataObject) -> None:
    """No parser fails in another way, and no message breaks a terminal or a log (faults 14, 15, 16)."""
    said = attempt(PARSERS[name], tmp_path, data.draw(changed(PARSERS[name].seeds))) or "fine"
    assert said.replace("\n", "").isprintable()
