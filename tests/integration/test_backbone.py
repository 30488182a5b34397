"""A run with a backbone, heads over views and balanced classes, and its embeddings."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from curation.store.workspace import Workspace
from tests.commands import run
from tests.integration.test_retrain import TINY, catalog
from tests.unit.test_resnet import written
from trainer import backbone, retrain
from trainer.commands import shown


@pytest.mark.slow
def test_a_run_with_all_of_it(
    sqlite_workspace: Workspace, tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is released with the network inside, says what each view and class was worth, and a second run computes no feature."""
    catalog(sqlite_workspace, 60)
    config = replace(TINY, backbone=str(written(tmp_path)), photo_px=32, aux_weight=0.3, balance="sqrt", hide_price=0.1)
    report = retrain.run(sqlite_workspace, trigger="test", now=now, config=config)
    assert report["state"] == "promoted" and {"joint", "title", "attributes", "photos"} == set(report["fit"]["views"])
    assert report["fit"]["classes"]["balance"] == "sqrt" and set(report["fit"]["classes"]["roots"]) == {"Home", "Toys"}
    assert "title alone" in shown(report)
    told = json.loads(run(sqlite_workspace, "embed", "--nearest", "r4", "--k", "2", "--json").stdout)
    assert len(told["neighbours"]) == 2
    monkeypatch.setattr(backbone.Backbone, "_computed", None)  # a feature that is not in the cache would end the run
    assert retrain.run(sqlite_workspace, trigger="test", now=now, config=config)["n_photos"] == report["n_photos"]
