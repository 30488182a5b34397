"""Erasure on request: a word planted in every field is found nowhere afterwards, and what is left still fits together."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, text, update

from curation import erasure_commands
from curation.catalog import ingest
from curation.catalog.embeddings import Embedded, Writer
from curation.errors import DatabaseError
from curation.labelstudio import apply, payloads
from curation.release import erasure as snapshots_of
from curation.release import exports, snapshot, verify
from curation.review import neighbours, timeline
from curation.store import history, inbox, jobs, listings, reports
from curation.store.base import Base
from curation.store.reports import Given
from curation.store.service_tables import ErasedListing
from curation.store.tables import AnnotationRow, Inbox, LabelHistory, SnapshotRow
from curation.store.workspace import Workspace, set_state
from curation.types import Question
from curation.worker import Worker
from tests import builders, commands, review_world
from tests.conftest import NOW
from tests.full_disk import largest_file

CANARY = "Quokkaberg"
SELLER = f"{CANARY}-seller"
PATH = "Home / Garden"


def said(ref: str, task: str, words: str) -> bytes:
    """A webhook of one answer, with the task's data and a note, as Label Studio sends it."""
    result = [{"from_name": "note", "to_name": "title", "type": "textarea", "value": {"text": [words]}}]
    answer = {"id": int(task), "task": int(task), "completed_by": 1, "result": result, "was_cancelled": False}
    answer |= {"updated_at": NOW.isoformat(), "lead_time": 9.0, "ground_truth": False}
    data = {"listing_id": ref, "title": words, "description": words, "images": [f"http://here/{words}.jpg"]}
    body = {"action": "ANNOTATION_CREATED", "task": {"id": int(task), "data": data}, "annotation": answer, "project": {"id": 1}}
    return json.dumps(body).encode()


def planted(workspace: Workspace) -> None:
    """Two listings of one seller, one of another; the word stands in every field that can hold one."""
    words = f"{CANARY} ünïcode"
    shared = builders.photo(workspace, 1)
    builders.add(
        workspace,
        *(
            builders.record(
                f"mine-{n}",
                seller_ref=SELLER,
                title=f"{words} {n}",
                description=f"{words} rake",
                currency=CANARY[:8],
                attributes={words: words},
                photos=(builders.photo(workspace, 10 + n), shared),
                group_key=f"{CANARY}-group",
            )
            for n in range(2)
        ),
        builders.record("other", seller_ref="s2", photos=(shared,), category=PATH),
    )
    with workspace.db.write() as session:
        reports.add(session, [Given("mine-0", "counterfeit", f"{words} is fake", "u-1")], via="api", now=NOW)
    listing_id = builders.all_listings(workspace)[0].id
    review_world.answer(workspace, "mine-0", PATH, "anna")
    review_world.rank(workspace, Question.CATEGORY, review_world.suspect("mine-0", words, PATH, 0.9))
    review_world.draw(workspace, ["mine-1"], review_world.Reason("reported", 0.9, words))
    deliver(workspace, said("mine-0", "7", words), said("other", "8", "a rake"), f'{{"title": "{words} 1", "x'.encode())
    assert listing_id == 1


def deliver(workspace: Workspace, *bodies: bytes) -> None:
    """Receive, and apply."""
    for body in bodies:
        with workspace.db.write() as session:
            inbox.receive(session, [inbox.Delivery("labelstudio", body, NOW)])
    Worker(workspace, ["ingest"]).run(until_idle=True)


def kept(workspace: Workspace) -> None:
    """Files that hold the word: a snapshot, an export, vectors, a cache, rejects."""
    with workspace.db.write() as session:
        exports.ask(session, "jsonl", by="ada", now=NOW)
    Worker(workspace, ["export"]).run(until_idle=True)
    home = workspace.settings.home
    with Writer(home / neighbours.FOLDER / "m.parquet", "m") as out:
        out.write(Embedded(("mine-0", "other"), builders.np.eye(2, dtype="float32")), ["verified"] * 2)
    (home / "cache").mkdir()
    (home / "cache" / "48-x.npy").write_bytes(CANARY.encode())
    (home / "rejects").mkdir()
    lines = [{"row": n, "values": {"id": ref, "title": words}} for n, ref, words in ((1, "mine-0", CANARY), (2, "other", "rake"))]
    (home / "rejects" / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def places(workspace: Workspace) -> Iterator[str]:
    """Where the word still stands: files with what lies in Parquet, and every row of every table."""
    import pyarrow.parquet as pq

    needles = [CANARY.encode(), CANARY.casefold().encode(), CANARY[:8].encode()]
    for path in sorted(workspace.settings.home.parent.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            data += str(pq.read_table(path).to_pylist()).encode() if path.suffix == ".parquet" else b""
            yield from (str(path) for needle in needles if needle in data)
    with workspace.db.read() as session:
        for name in Base.metadata.tables:
            for row in session.execute(text(f'SELECT * FROM "{name}"')):
                shown = b" ".join(bytes(v) if isinstance(v, bytes | memoryview) else str(v).encode() for v in row)
                yield from (f"{name}: {shown[:300]!r}" for needle in needles if needle in shown)


def test_an_erased_word_is_found_nowhere(workspace: Workspace) -> None:
    """Text, price, attributes, photos, seller, reports, notes, kept deliveries, files: gone, by one command (fault 77)."""
    planted(workspace)
    kept(workspace)
    photos = {one.ref: [photo.sha256 for photo in one.photos] for one in builders.all_listings(workspace)}
    before = {place.split(":")[0] for place in places(workspace)}
    tables = {"listing", "report", "inbox", "label_history", "annotation", "suspect", "review_item"}
    assert before >= tables and any(".parquet" in place for place in before) and any("exports" in place for place in before)
    shown = commands.run_json(workspace, "erase", "--seller", SELLER)
    assert (
        shown["would_erase"]["listings"] == 2
        and shown["would_erase"]["photos"] == 3
        and set(before) == {place.split(":")[0] for place in places(workspace)}
    ), "nothing was changed"
    done = commands.run_json(workspace, "erase", "--seller", SELLER, "--reason", "request 88", "--by", "ada", "--yes")
    assert sorted(set(places(workspace))) == []
    assert done["files"]["database"] == "cleared" and done["files"]["photos"] == 2 and done["files"]["deliveries"] == 2
    assert workspace.media.has(photos["other"][0], ".jpg") and not workspace.media.has(photos["mine-0"][0], ".jpg")
    assert [one.ref for one in builders.all_listings(workspace)] == ["other"]
    [entry] = commands.run_json(workspace, "erase", "--log")["erasures"]
    assert (entry["by"], entry["reason"], entry["refs"]) == ("ada", "request 88", ["mine-0", "mine-1"]) and entry["finished_at"]


def test_what_others_said_stays(workspace: Workspace) -> None:
    """The other seller's delivery, label and rows are as they were; the erased listing's history keeps its rows (fault 77)."""
    planted(workspace)
    with workspace.db.read() as session:
        changes = [(x.id, x.value, x.source) for x in session.execute(select(LabelHistory).order_by(LabelHistory.id)).scalars()]
        body = session.execute(select(Inbox.body).where(Inbox.id == 2)).scalar_one()
    label = builders.label(workspace, "other")
    commands.run_json(workspace, "erase", "--seller", SELLER, "--yes")
    with workspace.db.read() as session:
        rows = session.execute(select(LabelHistory).order_by(LabelHistory.id)).scalars().all()
        assert [(x.id, x.value, x.source) for x in rows] == changes
        assert session.execute(select(Inbox.body).where(Inbox.id == 2)).scalar_one() == body
        assert not session.execute(
            select(AnnotationRow).where(AnnotationRow.listing_ref == "mine-0", AnnotationRow.is_current)
        ).all()
        told, page = history.of(session, "mine-0"), timeline.of(session, "mine-0")
    assert builders.label(workspace, "other") == label and told.erased_at is not None and told.annotations and told.title is None
    assert {change.value for change in told.changes} == {PATH, "counterfeit"} and page.events[0].kind == "erased"


def test_an_erased_listing_does_not_come_back(workspace: Workspace, tmp_path: Path) -> None:
    """Neither by an ingest nor by a late delivery; allowed, it does, under an id that nobody had (fault 77)."""
    planted(workspace)
    commands.run_json(workspace, "erase", "--listing", "mine-1", "--yes")
    file = tmp_path / "again.csv"
    file.write_text(f"id,title,category\nmine-1,{CANARY},{PATH}\nnew-1,Lamp,{PATH}\n")
    summary = ingest.run(workspace, file, ingest.Options(), now=NOW)
    assert summary.reasons == {"ref: erased": 1} and CANARY not in (tmp_path / "again.csv.rejects.jsonl").read_text()
    with workspace.db.write() as session:
        assert listings.upsert(session, [builders.record("mine-1", title=CANARY)], now=NOW).n_new == 0
    deliver(workspace, said("mine-1", "17", CANARY))
    with workspace.db.read() as session:
        state, body = session.execute(select(Inbox.state, Inbox.body).order_by(Inbox.id.desc()).limit(1)).one()
        notes = session.execute(select(AnnotationRow.note).where(AnnotationRow.listing_ref == "mine-1")).scalars().all()
        erased_id = session.execute(select(ErasedListing.listing_id)).scalar_one()
    assert state == "applied" and CANARY.encode() not in body and set(notes) == {""}
    commands.run_json(workspace, "erase", "--listing", "mine-1", "--allow")
    assert builders.add(workspace, builders.record("mine-1"))["mine-1"] > erased_id
    with workspace.db.read() as session:
        assert history.of(session, "mine-1").changes[0].source == "seller", "nothing of the erased one is taken for its own"


def test_an_answer_that_is_being_applied_is_erased_too(workspace: Workspace) -> None:
    """The erasure waits for it: else its words, and its vote, would be written after all others were silenced (fault 77)."""
    builders.add(workspace, builders.record("mine-0"))
    began = threading.Thread(
        target=erasure_commands.begin, args=(workspace, None, ["mine-0"]), kwargs={"by": "ada", "reason": ""}
    )
    with workspace.db.write() as session:
        words = apply.vocabulary(session, workspace)
        answer = payloads.parse(said("mine-0", "7", CANARY), "labelstudio/1", words.categories, words.violations)
        apply.apply_events(session, workspace, answer.events, via=apply.WEBHOOK, now=NOW)
        began.start()
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        for _ in range(0 if workspace.db.is_sqlite else 500):
            with workspace.db.read() as reading:
                if reading.execute(waiting).scalar_one():
                    break
            time.sleep(0.01)
    began.join(timeout=30)
    with workspace.db.read() as session:
        assert {(row.note, row.is_current) for row in session.execute(select(AnnotationRow)).scalars()} == {("", False)}
        assert history.of(session, "mine-0").erased_at is not None


def test_an_erased_last_id_is_never_given_again(workspace: Workspace) -> None:
    """The history of an erased listing cannot become a new one's (fault 77)."""
    builders.add(workspace, *builders.records(3))
    commands.run_json(workspace, "erase", "--listing", "r2", "--yes")
    found = builders.add(workspace, builders.record("new-1"), builders.record("new-2"))
    assert min(found.values()) > 3 and len(set(found.values())) == 2
    with workspace.db.read() as session:
        owners = session.execute(select(LabelHistory.listing_id).where(LabelHistory.listing_id.in_(found.values()))).scalars()
        assert sorted(owners) == sorted(found.values())


def test_a_snapshot_says_what_was_erased_from_it(workspace: Workspace) -> None:
    """It keeps its name and its other rows; each erasure is a link that cannot be taken out or changed unseen (fault 77)."""
    planted(workspace)
    frozen = snapshot.create(workspace, now=NOW)
    before = snapshot.load(workspace, frozen.sha256)
    for ref in ("mine-0", "mine-1"):
        commands.run_json(workspace, "erase", "--listing", ref, "--yes")
    left = snapshot.load(workspace, frozen.sha256)
    assert left.equals(before[before["ref"] == "other"].reset_index(drop=True))
    told = verify.of_snapshot(workspace, frozen.sha256)
    assert told.state == "ok" and told.words.count("erased 1 listings on 2") == 2 and told.words.startswith("3 listings")
    assert commands.run_json(workspace, "verify")["ok"]
    out = commands.run_json(workspace, "export", "--out", workspace.settings.home / "d", "--snapshot", frozen.sha256)
    assert out["content"] == {"erased": 2, "same": 1}
    with workspace.db.write() as session:
        summary = session.execute(select(SnapshotRow.summary)).scalars().first()
        assert summary is not None
        shorter = {**summary, snapshots_of.KEY: summary[snapshots_of.KEY][1:]}
        session.execute(update(SnapshotRow).values(summary=shorter))
    assert verify.of_snapshot(workspace, frozen.sha256).state == "damaged"
    assert commands.run(workspace, "verify").exit_code == 1


def test_an_untouched_snapshot_is_counted_again(sqlite_workspace: Workspace) -> None:
    """Without erasures the name follows from the rows themselves (fault 50)."""
    builders.add(sqlite_workspace, *builders.records(5))
    frozen = snapshot.create(sqlite_workspace, now=NOW)
    assert verify.of_snapshot(sqlite_workspace, frozen.sha256).state == "ok"
    with sqlite_workspace.db.write() as session:
        session.execute(update(SnapshotRow).values(sha256="0" * 64))
    assert "not those it is named by" in verify.of_snapshot(sqlite_workspace, "0" * 64).words


@pytest.mark.parametrize("step", ["delete_exports"])
def test_an_erasure_cut_short_goes_on(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The database is one transaction; a kill among the files is made good by --finish (fault 77)."""
    planted(workspace)
    kept(workspace)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(snapshots_of, step, killed)
        assert commands.run(workspace, "erase", "--seller", SELLER, "--yes").exit_code != 0
    assert [one.ref for one in builders.all_listings(workspace)] == ["other"] and list(places(workspace))
    assert commands.run_json(workspace, "erase", "--finish")["finished"] == 1
    assert list(places(workspace)) == []
    assert commands.run_json(workspace, "erase", "--finish")["finished"] == 0


def test_a_snapshot_or_export_made_meanwhile_is_made_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before the erasure is not kept after it (fault 77)."""
    planted(workspace)
    real, done = snapshot.pages, []

    def erasing(session: object) -> object:
        yield from real(session)  # type: ignore[arg-type]
        if not done:
            done.append(erasure_commands.begin(workspace, SELLER, None, by="ada", reason=""))

    monkeypatch.setattr(snapshot, "pages", erasing)
    if workspace.db.is_sqlite:
        with workspace.db.write() as session:
            exports.ask(session, "jsonl", by="ada", now=NOW)
        Worker(workspace, ["export"]).run(until_idle=True)
    assert snapshot.create(workspace, now=NOW).n_listings == 1 and done == [1]
    erasure_commands.finish(workspace)
    assert list(places(workspace)) == []


def test_tasks_are_deleted_by_a_job_of_the_same_transaction(workspace: Workspace) -> None:
    """Only where a project was set up; the job names the erasure and no text (fault 77)."""
    planted(workspace)
    with workspace.db.write() as session:
        set_state(session, "labelstudio.project", {"id": 1, "url": "http://127.0.0.1:1/projects/1"}, now=NOW)
    done = commands.run_json(workspace, "erase", "--seller", SELLER, "--yes")
    with workspace.db.read() as session:
        [job] = jobs.newest(session, kind="erase")
    assert dict(job.payload) == {"erasure": done["erasure"]} and job.state == "todo"


@pytest.mark.parametrize(
    "words", [("--seller", "nobody"), ("--listing", "nothing"), (), ("--seller", "s", "--listing", "r"), ("--allow",)], ids=str
)
def test_what_cannot_be_erased_is_said(sqlite_workspace: Workspace, words: tuple[str, ...]) -> None:
    """Nothing there, nothing named, or too much named."""
    found = commands.run(sqlite_workspace, "erase", *words)
    assert found.exit_code == 1 and found.stderr.startswith("refurbish: ")


def test_a_disk_too_full_to_clear_the_database_is_said(sqlite_workspace: Workspace) -> None:
    """It is not told to be in use; what was erased is erased, and --finish clears the file (fault 77)."""
    builders.add(sqlite_workspace, builders.record("mine-0"))
    erasure_commands.begin(sqlite_workspace, None, ["mine-0"], by="ada", reason="")
    with (
        largest_file(8192),
        pytest.raises(DatabaseError, match=r"cannot be cleared: .* make room, then run: refurbish erase --finish"),
    ):
        sqlite_workspace.db.compact()
    assert erasure_commands.finish(sqlite_workspace)["database"] == "cleared"
