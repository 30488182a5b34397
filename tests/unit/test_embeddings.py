"""Embeddings in files, and neighbours among them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import load_model_from_string

from curation.catalog.embeddings import Embedded, Writer, nearest, read, unit, vector_of
from curation.catalog.scorer import Scorer
from curation.catalog.sidecar import ONNX_SUFFIX
from curation.errors import InputError, NotFoundError
from curation.store.files import FileStore
from tests import full_disk
from tests.unit.test_scorer import CLASSES, POLICY, changed, detector, listings
from tests.unit.test_trainer import SHAPE
from trainer import onnx


def page(start: int, n: int, width: int = 4) -> Embedded:
    """Listings r<start> … with vectors of their own."""
    rng = np.random.default_rng(start)
    return Embedded(tuple(f"r{start + at}" for at in range(n)), rng.standard_normal((n, width)).astype(np.float32))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 30))
def test_neighbours_are_those_of_one_large_product(sizes: list[int], k: int) -> None:
    """However the listings are cut into pages."""
    parts = [page(100 * at, n) for at, n in enumerate(sizes)]
    refs, vectors = [ref for part in parts for ref in part.refs], np.concatenate([part.vectors for part in parts])
    cosines = unit(vectors) @ unit(vectors[:1])[0]
    order = [at for at in np.argsort(-cosines, kind="stable") if at][:k]
    found = nearest(vectors[0], iter(parts), k, but=refs[0])
    assert [one.ref for one in found] == [refs[at] for at in order]
    assert np.allclose([one.similarity for one in found], cosines[order], atol=1e-6)


def test_a_zero_vector_is_near_to_nothing() -> None:
    """It stays zero, with cosine 0, and never NaN."""
    flat = Embedded(("a", "b"), np.zeros((2, 3), np.float32))
    assert not unit(flat.vectors).any() and nearest(flat.vectors[0], [flat], 2, but="a")[0].similarity == 0


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_file_is_read_back(tmp_path: Path, dtype: str) -> None:
    """Page by page, as precisely as its type allows."""
    with Writer(tmp_path / "e.parquet", "m1", dtype) as writer:
        for start in (0, 5):
            writer.write(page(start, 5), ["train"] * 5)
    found = list(read(tmp_path / "e.parquet"))
    assert [ref for part in found for ref in part.refs] == [f"r{at}" for at in range(10)]
    assert np.allclose(vector_of("r7", iter(found)), page(5, 5).vectors[2], atol=1e-2 if dtype == "float16" else 0)
    assert pq.read_schema(tmp_path / "e.parquet").field("embedding").type == pa.list_(
        pa.float16() if dtype == "float16" else pa.float32(), 4
    )


def test_a_run_that_stops_leaves_no_file(tmp_path: Path) -> None:
    """Nor a part of one; an older file stays (fault 49)."""
    (tmp_path / "e.parquet").write_bytes(b"older")
    with pytest.raises(RuntimeError, match="stopped"), Writer(tmp_path / "e.parquet", "m1") as writer:
        writer.write(page(0, 3), ["train"] * 3)
        raise RuntimeError("stopped")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("e.parquet", b"older")]


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    """Values beyond half precision, files of other columns, vectors of another model, listings that are not there (fault 48)."""
    huge = Embedded(("a",), np.full((1, 2), 1e6, np.float32))
    with pytest.raises(InputError, match="write float32"), Writer(tmp_path / "e.parquet", "m1") as writer:
        writer.write(huge, ["train"])
    pq.write_table(pa.table({"ref": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="has no embeddings"):
        next(read(tmp_path / "other.parquet"))
    with pytest.raises(InputError, match="4 and 2 wide"):
        nearest(huge.vectors[0], [page(0, 3)], 2)
    with pytest.raises(NotFoundError, match="'b'"):
        vector_of("b", [huge])


@pytest.mark.parametrize("name", ["truncated", "pickle", "empty", "NaN"])
def test_a_file_that_is_no_embeddings_is_refused(tmp_path: Path, name: str) -> None:
    """Cut off, something else, or with NaN among the numbers: its name and what to do (fault 48)."""
    path = tmp_path / "e.parquet"
    vectors = np.full((3, 2), np.nan if name == "NaN" else 1.0, np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 2)
    pq.write_table(pa.table({"ref": ["a", "b", "c"], "embedding": column}), path)
    broken = {"truncated": path.read_bytes()[:-20], "pickle": b"\x80\x04cos\nsystem\n.", "empty": b"", "NaN": path.read_bytes()}
    path.write_bytes(broken[name])
    with pytest.raises(InputError, match=r"e\.parquet.*write it again with --out"):
        list(read(path))


def test_a_full_disk_leaves_the_older_file(tmp_path: Path) -> None:
    """Wherever the kernel refuses more bytes, in a page or in the footer; nothing lies beside it (fault 49)."""
    path = tmp_path / "e.parquet"
    page = Embedded(tuple("abc"), np.ones((3, 64), np.float32))
    with Writer(path, "m1") as writer:
        writer.write(page, ["train"] * 3)
    whole = path.read_bytes()
    for n_bytes in range(0, len(whole), 150):
        with full_disk.largest_file(n_bytes), pytest.raises(OSError, match="too large"), Writer(path, "m2") as writer:
            writer.write(page, ["train"] * 3)
        assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]


def test_an_older_model_says_that_it_must_be_trained_anew(tmp_path: Path) -> None:
    """It answers as ever; only embeddings are not to be had."""
    files = FileStore(tmp_path)
    made = onnx.export(detector(), files, shape=SHAPE, classes=CLASSES, violations=POLICY, report={})
    graph = load_model_from_string(files.get(made.onnx_sha256, ONNX_SUFFIX))
    del graph.graph.output[2]
    older = files.put(graph.SerializeToString(), ONNX_SUFFIX)
    scorer = Scorer.load(files, older, changed(files, made, onnx_sha256=older))
    features = scorer.featurizer.transform(listings(files), files)
    assert len(scorer.predict(features).category_probs) == 8
    with pytest.raises(NotFoundError, match="retrain first"):
        scorer.embed(features)
