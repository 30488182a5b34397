"""What a search finds: cells as readable JSON and as a picture, and the alarm when they are nothing but pooling."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from curation.errors import ConfigError
from curation.release.drawing import drawing
from trainer.search.cells import OPERATIONS, Genotype, Skeleton, mutated, pool_and_skip, random_genotype

SVG = "{http://www.w3.org/2000/svg}"


def drawn(seed: int) -> Genotype:
    """A random genotype."""
    return random_genotype(np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(5))
def test_json_is_read_back_as_it_was(seed: int) -> None:
    """Every edge has a line of its own, and nothing is lost."""
    text = drawn(seed).to_json()
    assert Genotype.from_json(text) == drawn(seed)
    assert sum('"op"' in line for line in text.splitlines()) == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 0}, "version 0 is older, this release reads 1; search again"),
        ({"version": True}, "version True is unknown"),
        ({"format": "other"}, 'it must be an object with "format": "refurbish-genotype"'),
        ({"read_out": "sum"}, "read-out 'sum' is unknown; choose of mean, max, attention"),
        ({"n_nodes": 13}, "n_nodes is 13; a cell has 1 to 12 nodes"),
        ({"n_nodes": 4.0}, "n_nodes is 4.0"),
        ({"concat": []}, "concat is"),
        ({"concat": [2, 2]}, "name each output node once, of 2…5"),
        ({"concat": [[2]]}, "name each output node once"),
        ({"normal": "conv3"}, "normal is 'conv3'; it must be a list"),
        ({"normal": [{"from": 0}]}, 'write {"from": 0, "to": 2, "op": "conv3"}'),
        ({"normal": []}, r"nothing leads to normal nodes \[2, 3, 4, 5\]"),
        ({"extra": 1}, r"keys \['extra'\] are missing or unknown"),
    ],
)
def test_a_file_by_hand_is_told_what_is_wrong(changes: dict[str, object], message: str) -> None:
    """Older versions, unknown keys and values of another type are refused, each with what to write (fault 48)."""
    values = {**json.loads(drawn(1).to_json()), **changes}
    with pytest.raises(ConfigError, match=message):
        Genotype.from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        ({"from": 3, "to": 2, "op": "conv3"}, "comes from a later node, that is a cycle"),
        ({"from": 2, "to": 2, "op": "conv3"}, "comes from a later node, that is a cycle"),
        ({"from": -1, "to": 2, "op": "conv3"}, "names no node"),
        ({"from": 0, "to": 9, "op": "conv3"}, "names no node"),
        ({"from": "0", "to": 2, "op": "conv3"}, "names no node"),
        ({"from": 0, "to": 5, "op": ["conv3"]}, "has the unknown operation"),
        ({"from": 0, "to": 2, "op": "skip"}, "edge 0 → 2 is there twice"),
    ],
)
def test_edges_that_make_no_network_are_named(edge: dict[str, object], message: str) -> None:
    """Cycles, double edges and states that do not exist."""
    values = json.loads(pool_and_skip().to_json())
    values["reduction"].append(edge)
    with pytest.raises(ConfigError, match=message):
        Genotype.from_json(json.dumps(values))


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"a": 1, "a": 2}', "[" * 100_000, "9" * 5000])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    """Whatever is in the file, the error is ours (fault 48)."""
    with pytest.raises(ConfigError):
        Genotype.from_json(text)


def test_random_genotypes_follow_the_seed_and_use_every_operation() -> None:
    """The same seed gives the same cells; over many seeds all operations but zero occur."""
    assert drawn(3) == drawn(3) != drawn(4)
    found = {edge.op for seed in range(20) for _, edges in drawn(seed).cells for edge in edges}
    assert found == set(OPERATIONS) - {"zero"}


def test_the_alarm_counts_what_a_collapsed_cell_is_made_of() -> None:
    """Nothing but pooling and skips is said so, cell by cell."""
    found = pool_and_skip()
    assert found.is_collapsed and found.parameter_free == 1
    assert found.alarm.startswith("the normal cell is nothing but pooling and skips (8 edges: 4 max3, 4 skip) and the reduction")
    assert not drawn(1).is_collapsed and drawn(1).alarm == ""


@pytest.mark.parametrize("seed", range(3))
def test_the_picture_is_described_and_fits_its_frame(seed: int) -> None:
    """Every edge is drawn, named in the description that is read aloud, and inside the picture."""
    root = ElementTree.fromstring(drawing(drawn(seed)))
    described = root.findtext(f"{SVG}desc") or ""
    assert len(root.findall(f".//{SVG}path")) == described.count(" from ") == 16
    ids = {child.attrib["id"] for child in root if "id" in child.attrib}
    assert root.attrib["role"] == "img" and set(root.attrib["aria-labelledby"].split()) == ids
    assert all(float(text.attrib["x"]) + 60 < float(root.attrib["width"]) for text in root.iter(f"{SVG}text"))


def test_two_pictures_on_one_page_keep_their_ids_apart() -> None:
    """A page may hold several; the alarm is part of the description."""
    first, second = drawing(drawn(1)), drawing(pool_and_skip())
    assert ElementTree.fromstring(first).attrib["aria-labelledby"] != ElementTree.fromstring(second).attrib["aria-labelledby"]
    assert "Alarm: the normal cell is nothing but pooling" in second and "Alarm" not in first


@pytest.mark.parametrize("values", [{"width": 7}, {"width": 1}, {"n_cells": 2}, {"drop_path": 1.0}, {"stem_multiplier": 0}])
def test_a_skeleton_that_cannot_be_built_is_refused(values: dict[str, float]) -> None:
    """Odd widths, too few cells, shares of one."""
    with pytest.raises(ConfigError, match=next(iter(values))):
        Skeleton(**values)  # type: ignore[arg-type]


def test_reductions_stand_at_one_and_two_thirds() -> None:
    """Each doubles the width."""
    skeleton = Skeleton(width=16, n_cells=6)
    assert skeleton.reductions == (2, 4)
    assert [skeleton.width_of(at) for at in range(6)] == [16, 16, 32, 32, 64, 64]


def test_a_mutant_differs_in_one_place() -> None:
    """In an edge's operation or source, or in the read-out; all of them happen, and every mutant can be built."""
    rng, parent, kinds = np.random.default_rng(1), drawn(2), set()
    for _ in range(60):
        child = mutated(parent, rng)
        changed = [edge for (_, old), (_, new) in zip(parent.cells, child.cells, strict=True) for edge in {*new} - {*old}]
        assert len(changed) + (child.read_out != parent.read_out) == 1
        kinds.add("read-out" if not changed else "operation" if _pairs(child) == _pairs(parent) else "source")
    assert kinds == {"read-out", "operation", "source"}


def _pairs(genotype: Genotype) -> list[set[tuple[int, int]]]:
    return [{(edge.source, edge.node) for edge in edges} for _, edges in genotype.cells]
