"""`refurbish search` on a small catalog: a run is noted, a design wins, its cells can be read again."""

from datetime import datetime

import pytest
import torch

from curation.errors import ConfigError, InputError
from curation.release import policy, registry
from curation.store.workspace import Workspace
from tests.integration.test_retrain import catalog
from trainer.search import architecture
from trainer.search.architecture import Plan, Work
from trainer.search.cells import Genotype

TINY = Plan(mode="hashed", n_seeds=1, n_random=1, n_bred=1, epochs=1, race_steps=2)
CPU = torch.device("cpu")


@pytest.mark.slow
def test_a_search_ends_with_a_winner(workspace: Workspace, now: datetime) -> None:
    """All kinds of designs run, the run is kept with its race, and a retrain is as due as before."""
    catalog(workspace, 300)
    report = architecture.run(Work(workspace, TINY, CPU), now=now)
    kinds = {architecture.kind_of(entry["name"]) for entry in report["race"]}
    assert kinds >= {"found", "random", "pool and skip", "TextCNN"} and kinds <= {
        "bred",
        "found",
        "random",
        "pool and skip",
        "TextCNN",
    }
    with workspace.db.read() as session:
        kept = registry.run(session, report["run_id"])
        assert (kept.kind, kept.state, kept.report["words"]) == ("search", "finished", report["words"])
        assert policy.corrections(session).since is None
    if cells := architecture.text(report):
        assert workspace.files.get(report["genotype_sha256"], architecture.GENOTYPE_SUFFIX).decode() == cells
        assert "<svg" in str(architecture.picture(report)) and Genotype.from_json(cells)


def test_a_search_on_nothing_is_noted_as_failed(workspace: Workspace, now: datetime) -> None:
    """The run says why it ended."""
    catalog(workspace, 12)
    with pytest.raises(InputError, match="ingest more"):
        architecture.run(Work(workspace, TINY, CPU), now=now)
    with workspace.db.read() as session:
        (kept,) = registry.runs(session, limit=5)
    assert kept.state == "failed" and "ingest more" in kept.report["error"]


def test_a_plan_must_make_sense() -> None:
    """Counts from 1, and time above nothing."""
    with pytest.raises(ConfigError, match="n_seeds=-1, n_rungs=0"):
        Plan(n_seeds=-1, n_rungs=0)
    with pytest.raises(ConfigError, match="budget_s=0"):
        Plan(budget_s=0.0)
