"""`/quality`: the noise matrix, the listings behind its cells, and what the worker counts for it."""

import re
import threading
from datetime import datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient

from curation.review import agreement, branches, decisions, insight, matrix
from curation.review.decisions import Pair
from curation.review.matrix import ELSEWHERE, Expected
from curation.review.selection import AUDIT_REASON
from curation.store.people import Role
from curation.store.tables import CategoryAlias
from curation.store.workspace import Workspace
from curation.types import Question
from curation.worker import Worker
from tests import builders, review_world
from tests.page_client import EVIL, as_role, faults
from tests.review_world import PATHS
from webhooks import kept, service
from webhooks.pages import quality

GARDEN, LAMPS, BALLS, BIKES = PATHS


@pytest.fixture
def client(app: Flask, workspace: Workspace, now: datetime) -> FlaskClient:
    """An engineer's client of the service, on each database."""
    return as_role(app, workspace, Role.ENGINEER, now)


def _decided(workspace: Workspace) -> None:
    """Of 40 listings 24 are decided: half of those given as garden are lamps, one is a ball; eight were drawn at random."""
    review_world.catalog(workspace, 40)
    refs = [f"r{i:03d}" for i in range(24)]
    review_world.draw(workspace, refs[:8], AUDIT_REASON)
    review_world.draw(workspace, refs[8:])
    said = {"r000": LAMPS, "r008": LAMPS, "r016": LAMPS, "r012": BALLS}
    review_world.answer_all(workspace, [(ref, said.get(ref, PATHS[int(ref[1:]) % 4]), "anna") for ref in refs])


def _counted(workspace: Workspace) -> None:
    Worker(workspace, kinds=["insight"]).run(until_idle=True)


# The matrix


def test_pairs_fold_into_the_children_of_a_branch() -> None:
    """What leaves the branch is elsewhere; what only changes its leaf stays in the child, and is wrong all the same."""
    pairs = [
        Pair("A / x / 1", "A / x / 2", 3, 1),
        Pair("A / x / 1", "A / y", 2, 2),
        Pair("A / y", "B", 1, 0),
        Pair("B", "B", 9, 9),
    ]
    found = matrix.of("A", pairs)
    assert [(row.category, row.n, row.n_wrong) for row in found.rows] == [("A / x", 5, 5), ("A / y", 1, 1)]
    cells = {(cell.given, cell.true): (cell.n, cell.n_audit) for cell in found.cells}
    assert cells == {("A / x", "A / x"): (3, 1), ("A / x", "A / y"): (2, 2), ("A / y", ELSEWHERE): (1, 0)}
    assert found.total.audit is not None and found.total.audit.n == 3 and found.columns == ("A / x", "A / y", ELSEWHERE)


def test_the_models_estimate_folds_alike() -> None:
    """Expected wrong labels leave the diagonal only where they leave the child."""
    expected = [
        Expected("A / x", 10, 3.0, (("A / y", 2.0), ("B", 1.0))),
        Expected("A / y", 5, 0.0, ()),
        Expected("B", 7, 1.0, ()),
    ]
    found = {(cell.given, cell.true): cell.n_expected for cell in matrix.of("", [], expected).cells}
    assert found == {("A", "A"): 14.0, ("A", "B"): 1.0, ("B", "B"): 7.0}
    inside = matrix.of("A", [], expected)
    assert [(row.category, row.n_listings) for row in inside.rows] == [("A / x", 10), ("A / y", 5)]
    assert inside.rows[0].expected is not None and inside.rows[0].expected.value == pytest.approx(0.3)


def test_decisions_are_counted_with_the_audit_sample(workspace: Workspace) -> None:
    """Given and true by moderators' words; those drawn at random apart."""
    _decided(workspace)
    with workspace.db.read() as session:
        found = decisions.tally(session, Question.CATEGORY, branches.names(session))
    counts = {(pair.given, pair.true): (pair.n, pair.n_audit) for pair in found}
    assert counts[GARDEN, LAMPS] == (3, 1) and counts[GARDEN, BALLS] == (1, 0) and counts[GARDEN, GARDEN] == (2, 1)
    assert sum(n for n, _ in counts.values()) == 24 and sum(n for _, n in counts.values()) == 8


def test_a_renamed_category_counts_under_its_present_name(workspace: Workspace, now: datetime) -> None:
    """Labels said under the former name, and addresses with it, mean the present one."""
    _decided(workspace)
    with workspace.db.write() as session:
        nodes = {path: node.id for path, node in _nodes(session).items()}
        session.add(CategoryAlias(old_path=LAMPS, category_id=nodes[BIKES], at=now))
    with workspace.db.read() as session:
        known = branches.names(session)
        pairs = {(pair.given, pair.true): pair.n for pair in decisions.tally(session, Question.CATEGORY, known)}
        behind = decisions.behind(session, Question.CATEGORY, given={GARDEN}, true=known.under(BIKES))
    assert pairs[GARDEN, BIKES] == 3 and (GARDEN, LAMPS) not in pairs and len(behind) == 3


def _nodes(session: object) -> dict[str, object]:
    from curation.store import taxonomy

    return dict(taxonomy.ensure(session, PATHS))  # type: ignore[arg-type]


def test_violations_are_compared_with_what_users_reported(workspace: Workspace) -> None:
    """Reports in any order are one given label."""
    flags = ("misleading_photo", "counterfeit")
    builders.add(workspace, builders.record("r1", flags=flags), builders.record("r2", flags=tuple(reversed(flags))))
    for ref in ("r1", "r2"):
        review_world.answer(workspace, ref, "counterfeit", question=Question.VIOLATION)
    with workspace.db.read() as session:
        (pair,) = decisions.tally(session, Question.VIOLATION, branches.names(session))
        behind = decisions.behind(session, Question.VIOLATION, given={pair.given}, true={"counterfeit"})
    assert (pair.given, pair.true, pair.n) == ("counterfeit|misleading_photo", "counterfeit", 2) and len(behind) == 2


# The page


def test_an_empty_database_is_explained(client: FlaskClient) -> None:
    """Neither decisions nor a run: the page says what to do."""
    page = client.get("/quality")
    assert page.status_code == 200 and "refurbish review select" in page.text and "refurbish worker" in page.text
    assert client.get("/quality?question=violation").status_code == 200
    assert "No decided listing" in client.get("/quality/cell").text


def test_the_page_shows_decisions_at_once_and_leads_to_the_listings(client: FlaskClient, workspace: Workspace) -> None:
    """A decision is on the page with the next request; a cell leads to exactly its listings, on several pages if need be."""
    _decided(workspace)
    assert ">24</p>" in client.get("/quality").text
    review_world.answer(workspace, "r030", BIKES, "bela")
    assert ">25</p>" in client.get("/quality").text
    inside = client.get("/quality?branch=Home").text
    link = re.search(r'href="(/quality/cell[^"]*true=Home\+/\+Lamps[^"]*)"', inside)
    assert link is not None
    listed = client.get(link[1].replace("&amp;", "&")).text
    assert all(ref in listed for ref in ("r000", "r008", "r016")) and "r012" not in listed
    assert "r012" in client.get("/quality/cell", query_string={"given": "Home", "outside": "Home"}).text


def test_a_cell_goes_on_by_key(client: FlaskClient, workspace: Workspace) -> None:
    """The second page holds what the first did not, each listing once."""
    review_world.catalog(workspace, 60)
    review_world.answer_all(workspace, [(f"r{i:03d}", BIKES, "anna") for i in range(60)])
    seen: list[str] = []
    address: str | None = f"/quality/cell?true={BIKES}"
    while address:
        text = client.get(address).text
        seen += re.findall(r"<code>(r\d+)</code>", text)
        more = re.search(r'class="more" href="([^"]+)"', text)
        address = more[1].replace("&amp;", "&") if more else None
    assert seen == [f"r{i:03d}" for i in range(60)]


def test_the_worker_counts_what_needs_the_whole_catalog(client: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """After a run: the model's estimate, months and breadth; and not again while nothing changes."""
    _decided(workspace)
    listings = builders.all_listings(workspace)
    review_world.finish_run(workspace, review_world.confident(listings, wrong={"r020": LAMPS}))
    _counted(workspace)
    with workspace.db.read() as session:
        found = insight.load(session)
    assert found is not None and found.model is not None and found.model.overall is not None and found.model.overall.n == 40
    page = client.get("/quality?sample=model").text
    assert "by run 1" in page and "Broad categories first" in page and "too few to say" in page
    assert Worker(workspace, kinds=["insight"]).run(until_idle=True) == 0


def test_without_a_run_the_page_says_so(client: FlaskClient, workspace: Workspace) -> None:
    """Moderators' figures are there all the same."""
    _decided(workspace)
    _counted(workspace)
    page = client.get("/quality").text
    assert "no model has predicted the listings yet" in page and "anna" in page


def test_counting_anew_is_asked_for_once(client: FlaskClient, workspace: Workspace) -> None:
    """A double submit asks for one count."""
    answers = [client.post("/quality/count", follow_redirects=True).text for _ in range(2)]
    assert "counts anew" in answers[0] and "counting already" in answers[1]
    assert Worker(workspace, kinds=["insight"]).run(until_idle=True) == 1


def test_tables_download(client: FlaskClient, workspace: Workspace) -> None:
    """With numbers in columns of their own, and all cells, also those on the diagonal."""
    _decided(workspace)
    found = client.get("/quality?table=cells&as=json").json
    assert isinstance(found, list) and {"given", "true", "n", "audit", "audit_low", "audit_high", "audit_n"} <= found[0].keys()
    assert any(row["given"] == row["true"] for row in found)
    assert client.get("/quality/cell?true=Home&table=listings&as=csv").text.startswith('"ref","photo","title","given","true"')


# Moderators


def test_agreement_is_with_the_others_and_says_nothing_of_few(workspace: Workspace) -> None:
    """Carla differs on half. Where the others disagree there is nothing to compare with, and under 20 answers nothing is said."""
    review_world.catalog(workspace, 30)
    said = [(f"r{i:03d}", PATHS[i % 4], who) for i in range(24) for who in ("anna", "bela")]
    said += [(f"r{i:03d}", PATHS[(i + i % 2) % 4], "carla") for i in range(24)] + [("r000", GARDEN, "dora")]
    review_world.answer_all(workspace, said)
    with workspace.db.read() as session:
        found = {one.name: one for one in agreement.people(session)}
    assert list(found) == sorted(found) and found["dora"].agreement is None and found["dora"].median_s is None
    assert found["carla"].agreement is not None and found["carla"].agreement.value == 0.5
    assert (found["anna"].n, found["anna"].n_compared, found["anna"].agreement) == (24, 12, None)


def test_the_median_has_an_interval() -> None:
    """By order statistics: it lies around the middle and is narrower with more answers."""
    few, many = agreement.median(float(i) for i in range(21)), agreement.median(i / 100 for i in range(2101))
    assert few is not None and many is not None and few.low < few.value == 10 < few.high
    assert many.high - many.low < few.high - few.low and agreement.median([]) is None


# Hostile


def test_hostile_names_are_inert(client: FlaskClient, workspace: Workspace) -> None:
    """A category and a moderator that are called like markup are text."""
    builders.add(workspace, *(builders.record(f"r{i}", category=f"Home / {EVIL}", title=EVIL) for i in range(22)))
    review_world.answer_all(workspace, [(f"r{i}", f"Home / {EVIL}", EVIL[:60]) for i in range(22)])
    _counted(workspace)
    for path in ("/quality", "/quality?branch=Home", "/quality/cell"):
        page = client.get(path).text
        assert faults(page) == [] and "<img src=x" not in page


@pytest.mark.parametrize(
    "query",
    ["question=x", "sample=x", "question=category%00", "branch=%00", "branch=" + "x" * 1001],
)
def test_what_no_form_of_ours_sends_is_refused(client: FlaskClient, query: str) -> None:
    """400, no traceback."""
    assert client.get(f"/quality?{query}").status_code == 400


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/quality?branch=Nowhere", 404),
        ("/quality/cell?outside=Nowhere", 404),
        ("/quality/cell?given=Nowhere", 200),
        ("/quality/cell?after=-1", 400),
        ("/quality/cell?after=99999999999", 400),
        ("/quality/cell?after=2147483647", 200),
    ],
)
def test_unknown_branches_and_keys(client: FlaskClient, path: str, status: int) -> None:
    """404 for a branch that is not there, 400 for a key that cannot be."""
    assert client.get(path).status_code == status


@pytest.mark.parametrize("query", ["endpoint=x", "_method=POST", "_scheme=javascript&_external=1"])
def test_arguments_of_no_form_stay_arguments(client: FlaskClient, workspace: Workspace, query: str) -> None:
    """They steer no link of the page, whatever their names mean to those who build addresses."""
    _decided(workspace)
    answer = client.get(f"/quality?branch=Home&{query}")
    assert answer.status_code == 200 and faults(answer.text) == []


def test_names_are_counted_in_a_session_of_their_own(
    app: Flask, client: FlaskClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be counted behind the answer, when the request's own session is over: no connection stays open."""
    used, gate, names = [], threading.Event(), branches.names
    monkeypatch.setattr(kept, "QUICK_S", -1.0)
    monkeypatch.setattr(quality, "NAMES_AGE_S", 0.0)
    monkeypatch.setattr(kept, "REST", 0)
    monkeypatch.setattr(branches, "names", lambda session: (used.append(session), gate.wait(), names(session))[2])
    gate.set()
    client.get("/quality")
    gate.clear()
    assert client.get("/quality").status_code == 200
    gate.set()
    service.of(app).keeper.close()
    assert len(used) == 2 and workspace.db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_moderators_see_no_figures_of_people(app: Flask, workspace: Workspace, now: datetime) -> None:
    """The page is for engineers."""
    moderator = as_role(app, workspace, Role.MODERATOR, now)
    assert [moderator.get(path).status_code for path in ("/quality", "/quality/cell", "/suspects")] == [403, 403, 403]
    assert moderator.post("/quality/count").status_code == 403
