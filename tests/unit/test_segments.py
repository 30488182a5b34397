"""Files of rows that several processes share: what is written is found again, and nothing else is."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curation.catalog import segments

FIELDS = np.dtype([("key", "S20"), ("value", np.float16, (2,))])


def rows(*keys: str, fields: np.dtype[np.void] = FIELDS) -> NDArray[np.void]:
    """Rows of these keys, each with its number as value."""
    return np.array([(key.encode(), at) for at, key in enumerate(keys)], fields)


def test_a_file_is_called_by_its_least_key_and_length(tmp_path: Path) -> None:
    """It is what numpy reads, and nothing lies beside it."""
    path = segments.store(tmp_path / "cache", "32", rows("f" * 20, "a" * 20))
    assert path.name == f"32-{'a' * 16}-2.npy" and list(path.parent.iterdir()) == [path]
    assert (np.load(path, allow_pickle=False) == rows("f" * 20, "a" * 20)).all()


def test_only_files_of_the_same_kind_are_found(tmp_path: Path) -> None:
    """Not another name's, nor broken, empty or differently made ones."""
    wanted = segments.store(tmp_path, "32", rows("a", "b"))
    segments.store(tmp_path, "64", rows("c"))
    segments.store(tmp_path, "32", rows("d", fields=np.dtype([("key", "S20"), ("value", np.uint8)])))
    np.save(tmp_path / "32-empty.npy", rows())
    (tmp_path / "32-broken.npy").write_bytes(wanted.read_bytes()[:100])
    assert [found["key"].tolist() for found in segments.stored(tmp_path, "32", FIELDS)] == [[b"a", b"b"]]
