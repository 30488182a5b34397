"""A violation added to the live detector: what is needed, what is fitted, what stays as it was, and the way back."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from curation.catalog import sidecar
from curation.catalog.scorer import Scorer
from curation.catalog.sidecar import SAID, THRESHOLDS
from curation.errors import InputError, IntegrityError
from curation.labelstudio import project
from curation.release import registry
from curation.release.registry import Model
from curation.store import labels, violations
from curation.store.labels import Resolved
from curation.store.listings import Record
from curation.store.tables import AddedViolation, ListingRow, ReviewItem, RunRow, SnapshotRow
from curation.store.workspace import Workspace
from curation.types import NO_VIOLATION, LabelSource, Question
from tests import commands
from tests.builders import add, all_listings, label, record
from tests.conftest import NOW, make_workspace
from trainer import retrain
from trainer.addition import addition, skeleton
from trainer.addition.addition import Plan
from trainer.config import LOGISTIC, TrainConfig
from trainer.text import DIRECT_SCALE

WORDS = {"Home / Garden": "rake spade hedge", "Home / Kitchen": "kettle pan knife", "Toys / Dolls": "doll dress pram"}
TINY = TrainConfig(n_folds=2, epochs=1, batch=64, text_dim=8, photo_filters=4, photo_dim=4)
TICKETS = Plan("fake_tickets", "Fake tickets")
N = 200


def listed(n: int) -> list[Record]:
    """n listings, every fourth of which sells a concert ticket."""
    paths = list(WORDS)
    titles = [f"{WORDS[paths[at % 3]]} {at}" + (" concert ticket" if at % 4 == 0 else "") for at in range(n)]
    return [
        record(f"r{at}", category=paths[at % 3], title=title, description=title, photos=()) for at, title in enumerate(titles)
    ]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace whose live model knows nothing of tickets; trained once for all tests of this file."""
    folder = tmp_path_factory.mktemp("first")
    made = make_workspace(folder / "home", f"sqlite:///{folder / 'refurbish.db'}")
    add(made, *listed(N))
    retrain.run(made, trigger="first", now=NOW, config=TINY)
    yield made
    made.close()


def catalog(workspace: Workspace, first: Workspace, n: int = N) -> None:
    """n listings and the first model, live."""
    add(workspace, *listed(n))
    shutil.copytree(first.files.root, workspace.files.root, dirs_exist_ok=True)
    model = live(first)
    files = {f"{name}_sha256": getattr(model, f"{name}_sha256") for name in ("onnx", "sidecar", "weights")}
    with workspace.db.write() as session:
        made = registry.add_model(session, run_id=None, report=model.report, now=NOW, **files)
        registry.promote(session, made.name, by="test", reason="first", now=NOW)


def decide(workspace: Workspace, now: datetime, *, n: int = N, said: str = "fake_tickets") -> None:
    """Moderators decide the first n listings: every fourth is `said`."""
    with workspace.db.write() as session:
        for listing in all_listings(workspace)[:n]:
            value = said if int(listing.ref[1:]) % 4 == 0 else NO_VIOLATION
            labels.set_label(session, listing.id, Question.VIOLATION, Resolved(value, LabelSource.MODERATORS, 1.0, {}), now=now)


def register(workspace: Workspace, now: datetime) -> None:
    """The policy knows the violation; it is decided after that."""
    with workspace.db.write() as session:
        violations.add(session, workspace.settings, TICKETS.name, TICKETS.title, now=now)


def live(workspace: Workspace) -> Model:
    with workspace.db.read() as session:
        found = registry.live(session)
    assert found is not None
    return found


def kept(workspace: Workspace) -> dict[str, int]:
    """Rows of the tables that a run writes to."""
    with workspace.db.read() as session:
        tables = (AddedViolation, RunRow, SnapshotRow, ReviewItem)
        return {one.__tablename__: session.execute(select(func.count()).select_from(one)).scalar_one() for one in tables}


def refs_asked(session: Session, code: str) -> list[str]:
    """Listings asked about for this main reason, once for each question."""
    rows = session.execute(select(ListingRow.ref, ReviewItem.reasons).join(ReviewItem, ReviewItem.listing_id == ListingRow.id))
    return [ref for ref, reasons in rows if reasons[0]["code"] == code]


def test_one_command_releases_a_head_and_rollback_takes_it_back(workspace: Workspace, first: Workspace, now: datetime) -> None:
    """Weights and thresholds of all else stay to the last bit; the seconds of each stage are printed."""
    catalog(workspace, first)
    before = live(workspace)
    register(workspace, now)
    decide(workspace, now + timedelta(hours=1))
    shown = commands.run(workspace, "category", "add", "fake_tickets", "--title", "Fake tickets")
    assert shown.exit_code == 0 and "promoted" in shown.stdout and "refurbish labelstudio setup" in shown.stdout, shown.output
    assert all(name in shown.stdout for name in ("data", "features", "fit", "certify", "evaluate", "gate", "release", "total"))
    after = live(workspace)
    old, new = (skeleton.load(workspace, model) for model in (before, after))
    assert new.scorer.violations == (*old.scorer.violations, "fake_tickets") and skeleton.is_kept(old.detector, new.detector)
    thresholds = dict(new.scorer.sidecar[THRESHOLDS])
    assert thresholds.pop("fake_tickets")["n_positive"] > 0 and thresholds == old.scorer.sidecar[THRESHOLDS]
    found = new.scorer.score(all_listings(workspace), workspace.media).violation_probs[:, -1]
    assert found[::4].min() > found[1::4].max()
    commands.run_json(workspace, "rollback", "--reason", "test")
    assert live(workspace).name == before.name


def test_the_next_full_run_knows_it_and_what_its_champion_saw(workspace: Workspace, now: datetime) -> None:
    """A retrain has a head for it, and is judged on no listing that the skeleton was fitted on."""
    add(workspace, *listed(N))
    retrain.run(workspace, trigger="first", now=now, config=TINY)
    register(workspace, now)
    decide(workspace, now + timedelta(hours=1))
    first_run = live(workspace).run_id
    assert addition.run(workspace, TICKETS, now=now + timedelta(hours=2))["state"] == "promoted"
    with workspace.db.read() as session:
        run = registry.run(session, live(workspace).run_id or 0)
    assert (run.kind, run.config["skeleton_run"]) == ("category", first_run)
    report = retrain.run(workspace, trigger="again", now=now + timedelta(hours=3), config=TINY)
    assert "fake_tickets" in report["challenger"]["violations"] and "error" not in report["champion"]
    assert report["champion"]["violations"]["fake_tickets"]["average_precision"]["value"] == 1.0


@pytest.mark.slow
def test_a_head_on_a_model_that_asks_with_the_category(sqlite_workspace: Workspace, now: datetime) -> None:
    """It is asked with it too, by both files; the next full run goes on without the option."""
    add(sqlite_workspace, *listed(N))
    retrain.run(sqlite_workspace, trigger="first", now=now, config=replace(TINY, violations_see_category="both"))
    before = live(sqlite_workspace)
    register(sqlite_workspace, now)
    decide(sqlite_workspace, now + timedelta(hours=1))
    report = addition.run(sqlite_workspace, TICKETS, now=now + timedelta(hours=2))
    assert report["state"] == "promoted", report["words"]
    old, new = (skeleton.load(sqlite_workspace, model) for model in (before, live(sqlite_workspace)))
    assert new.scorer.sidecar[SAID] and new.detector.kind is not None and skeleton.is_kept(old.detector, new.detector)
    assert all(table[:, -1].any() for table in new.detector.kind.tables)
    found = all_listings(sqlite_workspace)
    told, moved = (
        new.scorer.score([replace(one, category=path or one.category) for one in found], sqlite_workspace.media)
        for path in (None, "Toys / Dolls")
    )
    assert np.array_equal(told.category_probs, moved.category_probs)
    assert not np.array_equal(told.violation_probs[:, -1], moved.violation_probs[:, -1])
    again = retrain.run(sqlite_workspace, trigger="again", now=now + timedelta(hours=3), config=TINY)
    assert "error" not in again["champion"] and "fake_tickets" in again["champion"]["violations"]


def test_three_positives_wait_for_more(workspace: Workspace, first: Workspace, now: datetime, tmp_path: Path) -> None:
    """The words say how many are missing; --ask puts likely and random listings into the review queue."""
    catalog(workspace, first, n=120)
    file = tmp_path / "reports.csv"
    file.write_text("ref,reason\nr0,never came\nr4,\nr8,forged\n", encoding="utf-8")
    report = commands.run_json(workspace, "category", "add", "fake_tickets", "--positives", str(file), "--ask", "20")
    assert report["state"] == "waiting" and report["words"].startswith("3 positive listings, 27 more needed of 30")
    assert report["data"]["reported"] == 3 and label(workspace, "r0", Question.VIOLATION) == ("fake_tickets", "report")
    assert report["asked"]["by_reason"] == {"audit": 2, "likely_violation": 18}
    with workspace.db.read() as session:
        refs = refs_asked(session, "likely_violation")
    assert sum(int(ref[1:]) % 4 == 0 for ref in refs) >= 0.9 * len(refs)
    assert live(workspace).name == "det-0001"


def test_without_an_example_the_title_finds_listings(sqlite_workspace: Workspace, first: Workspace, now: datetime) -> None:
    """Before anybody said anything, listings are asked about whose words are those of the title."""
    catalog(sqlite_workspace, first, n=60)
    report = addition.run(sqlite_workspace, Plan("tickets", "Concert ticket", n_asked=10), now=now)
    assert report["data"]["positives"] == 0 and report["state"] == "waiting"
    with sqlite_workspace.db.read() as session:
        likely = set(refs_asked(session, "likely_violation"))
    assert len(likely) == 9 and all(int(ref[1:]) % 4 == 0 for ref in likely)


def test_all_negative_waits(workspace: Workspace, first: Workspace, now: datetime) -> None:
    """A violation that moderators looked for and nobody found."""
    catalog(workspace, first, n=60)
    register(workspace, now)
    decide(workspace, now, n=60, said=NO_VIOLATION)
    report = addition.run(workspace, TICKETS, now=now)
    assert report["state"] == "waiting" and report["data"]["verified_negatives"] == 60
    assert "0 positive listings, 30 more needed" in report["words"] and "model" not in report


def test_who_decided_before_could_not_have_said_it(sqlite_workspace: Workspace, first: Workspace, now: datetime) -> None:
    """Earlier decisions are no evidence against the violation; reports of such listings count."""
    catalog(sqlite_workspace, first, n=60)
    decide(sqlite_workspace, now - timedelta(days=1), n=60, said=NO_VIOLATION)
    report = addition.run(sqlite_workspace, Plan("fake_tickets", "Fake tickets", {"r0": ""}), now=now)
    assert report["data"]["verified_negatives"] == 0 and report["data"]["reported"] == 1
    assert label(sqlite_workspace, "r0", Question.VIOLATION) == (NO_VIOLATION, "moderators")


def test_reports_alone_are_not_released(sqlite_workspace: Workspace, first: Workspace, now: datetime) -> None:
    """A head that no moderator's decision judges is refused, with what is missing."""
    catalog(sqlite_workspace, first)
    reported = {f"r{at}": "" for at in range(0, N, 4)}
    report = addition.run(sqlite_workspace, Plan("fake_tickets", "Fake tickets", reported), now=now)
    assert report["state"] == "refused" and "10 more verified positives" in report["words"]
    assert live(sqlite_workspace).name == "det-0001" and report["threshold"]["value"] is None


def test_a_dry_run_keeps_nothing(workspace: Workspace, first: Workspace, now: datetime) -> None:
    """It fits and judges; no name, report, run, snapshot, file or model stays."""
    catalog(workspace, first)
    before, files = kept(workspace), sorted(workspace.files.root.rglob("*"))
    reported = {f"r{at}": "" for at in range(0, N, 4)}
    report = addition.run(workspace, Plan("fake_tickets", "Fake tickets", reported, n_asked=5, dry_run=True), now=now)
    assert report["state"] == "refused" and report["test"]["n"] == 0 and report["asked"] is None
    assert kept(workspace) == before and sorted(workspace.files.root.rglob("*")) == files
    assert all(not listing.flags for listing in all_listings(workspace))


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan("counterfeit", "Counterfeit"), "'counterfeit' is in the settings' policy already"),
        (Plan("Fake Tickets", "Fake"), "cannot be called 'Fake Tickets'"),
        (Plan("none", "None"), "cannot be called 'none'"),
        (Plan("tickets", " "), "cannot be shown to moderators"),
        (Plan("tickets", "Tickets", {"r0": "", "nowhere": ""}), "1 of 2 reported refs are no listings, such as \\['nowhere'\\]"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_added_changes_nothing(
    sqlite_workspace: Workspace, first: Workspace, now: datetime, plan: Plan, words: str
) -> None:
    """Names that are taken or not plain, titles nobody can read, reports of unknown listings."""
    catalog(sqlite_workspace, first, n=30)
    before = kept(sqlite_workspace)
    with pytest.raises(InputError, match=words):
        addition.run(sqlite_workspace, plan, now=now)
    assert kept(sqlite_workspace) == before


def test_a_head_that_is_live_is_not_added_twice(sqlite_workspace: Workspace, first: Workspace, now: datetime) -> None:
    """The live model has it: the words say what brings it up to date."""
    catalog(sqlite_workspace, first)
    register(sqlite_workspace, now)
    decide(sqlite_workspace, now)
    assert addition.run(sqlite_workspace, TICKETS, now=now)["state"] == "promoted"
    with pytest.raises(InputError, match="det-0002 has violation 'fake_tickets' already"):
        addition.run(sqlite_workspace, TICKETS, now=now)


def test_no_live_model_yet(workspace: Workspace, now: datetime) -> None:
    """There is nothing to add to; nothing is noted."""
    add(workspace, record("r1"))
    with pytest.raises(InputError, match="no live model to add a violation to; run `refurbish retrain` first"):
        addition.run(workspace, TICKETS, now=now)
    assert kept(workspace)["added_violation"] == 0


def test_weights_that_do_not_fit(sqlite_workspace: Workspace, first: Workspace, now: datetime) -> None:
    """A live model whose weights are of another shape is named; nothing is released (fault 48)."""
    catalog(sqlite_workspace, first, n=30)

    sha256 = sqlite_workspace.files.put(save({"text.direct": torch.zeros(2, 2)}), ".safetensors")
    with pytest.raises(IntegrityError, match="det-0001 do not fit its sidecar"):
        skeleton.load(sqlite_workspace, replace(live(sqlite_workspace), weights_sha256=sha256))


def test_a_model_of_before_is_read(sqlite_workspace: Workspace, first: Workspace, now: datetime) -> None:
    """Weights without the loudness of titles have the usual one; what says nothing of a loss was fitted with the logistic one."""
    catalog(sqlite_workspace, first, n=30)
    model, files = live(sqlite_workspace), sqlite_workspace.files
    weights = skeleton.load(sqlite_workspace, model).detector.state_dict()
    del weights[skeleton.LOUD]
    about = dict(sidecar.load(files, model.onnx_sha256, model.sidecar_sha256))
    about["train"] = {name: value for name, value in about["train"].items() if name != "violation_loss"}
    old = replace(
        model,
        weights_sha256=files.put(save(weights), ".safetensors"),
        sidecar_sha256=files.put(json.dumps(about).encode(), sidecar.SIDECAR_SUFFIX),
    )
    found = skeleton.load(sqlite_workspace, old)
    assert found.detector.text.direct_scale.tolist() == pytest.approx(DIRECT_SCALE) and found.config.violation_loss == LOGISTIC
    read = found.detector.state_dict()
    assert all(torch.equal(read[name], value) for name, value in weights.items())


def test_moderators_are_shown_what_was_added(workspace: Workspace, now: datetime) -> None:
    """The labeling page, the webhook's vocabulary and the export's classes know it, by its title."""
    add(workspace, record("r1"))
    register(workspace, now)
    with workspace.db.read() as session:
        page = project.page(session, workspace)
        names = violations.names(session, workspace.settings)
    assert 'value="Fake tickets" alias="fake_tickets"' in page and names == (*workspace.settings.violations, "fake_tickets")


def test_a_failed_run_says_so(
    sqlite_workspace: Workspace, first: Workspace, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle is noted with the run; the live model stays."""
    catalog(sqlite_workspace, first)
    register(sqlite_workspace, now)
    decide(sqlite_workspace, now)

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(addition, "judge", interrupted)
    with pytest.raises(KeyboardInterrupt):
        addition.run(sqlite_workspace, TICKETS, now=now)
    with sqlite_workspace.db.read() as session:
        assert [run.state for run in registry.runs(session)] == ["failed"]
    assert live(sqlite_workspace).name == "det-0001"


def test_the_head_is_the_one_that_was_fitted(sqlite_workspace: Workspace, first: Workspace, now: datetime) -> None:
    """The exported file gives the fitted head's probabilities, temperature built in."""
    catalog(sqlite_workspace, first)
    register(sqlite_workspace, now)
    decide(sqlite_workspace, now)
    report = addition.run(sqlite_workspace, TICKETS, now=now)
    model = live(sqlite_workspace)
    scorer = Scorer.load(sqlite_workspace.files, model.onnx_sha256, model.sidecar_sha256)
    probs = scorer.score(all_listings(sqlite_workspace), sqlite_workspace.media).violation_probs
    assert report["out_of_fold"]["ours"]["value"] > 0.95 and report["gate"]["passed"]
    assert np.isfinite(probs).all() and 0.5 <= report["temperature"] <= 8
