"""One moderator's work from the login page to the ledger: a trained model, a real service, a real worker, a real browser.

`REFURBISH_SCREENSHOT=docs/img/labeling.png` keeps the picture that the README shows.
"""

import html
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest

from curation.catalog import ingest, sample
from curation.labelstudio import doctor, push
from curation.review import suspects
from curation.store import history, listings
from curation.store import people as accounts
from curation.store.people import Role
from curation.store.tables import ReviewItem
from curation.store.workspace import Workspace, utc_now
from curation.types import Listing, Question
from tests import launch, pages_world
from tests.browser import HAS_BROWSER, chromium
from tests.labelstudio_people import Moderator
from tests.labelstudio_server import LabelStudioServer
from tests.live.world import SECRET, World, world
from tests.serving import served, working
from tests.visitor import Visitor

pytestmark = pytest.mark.skipif(not HAS_BROWSER, reason="needs chromium and chromedriver")
Three = tuple[Moderator, Moderator, Moderator]
PATIENCE_S = 90.0


@dataclass
class Doubted:
    """A listing whose seller was wrong, and what the page must show of it."""

    listing: Listing
    right: str
    reasons: list[dict[str, Any]]


@pytest.fixture(scope="module")
def trained(labelstudio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, dict[str, str]]]:
    """A sample catalog of which a quarter is verified, a model trained on it, the service and a worker; ref → right category."""
    folder = tmp_path_factory.mktemp("end-to-end")
    sample.generate(folder / "catalog", n=500, seed=4)
    url = f"sqlite:///{folder / 'refurbish.db'}"
    with (
        served(folder, url, webhook_secret=SECRET) as service,
        world(labelstudio, folder, 0, port=service.port) as here,
    ):
        ingest.run(here.workspace, folder / "catalog" / "listings.csv", ingest.Options(), now=utc_now())
        truth = pages_world.true_answers(folder / "catalog" / "truth.csv")
        verify(here.workspace, truth, n=180)
        train(here.workspace)
        here.set_up()
        with working(folder, **launch.told(here.workspace.settings)):
            yield here, {ref: category for ref, (category, _) in truth.items()}


def verify(workspace: Workspace, truth: dict[str, tuple[str, str]], *, n: int) -> None:
    """Moderators decided some listings that a sweep drew at random."""
    from curation.review import selection

    settings = workspace.settings.model_copy(update={"audit_share": 1.0, "blind_share": 0.0})
    drawing = Workspace(settings, workspace.db, workspace.files, workspace.media)
    selection.select_batch(drawing, n=n, rng=np.random.default_rng(0), now=utc_now())
    pages_world.answer(workspace, truth, utc_now(), np.random.default_rng(1))


def train(workspace: Workspace) -> None:
    """A run of few epochs; whatever its gate says, its suggestions are there, and the model is made live."""
    from curation.release import registry
    from trainer import retrain

    config = retrain.train_config(workspace.settings, folds=2, epochs=20)
    report = retrain.run(workspace, trigger="test", now=utc_now(), config=config, device="cpu")
    with workspace.db.write() as session:
        if registry.live(session) is None:
            registry.promote(session, report["model"], by="test", reason="the first", now=utc_now(), files=workspace.files)


@pytest.fixture
def visitor(trained: tuple[World, dict[str, str]]) -> Iterator[Visitor]:
    """An engineer who looks at our own pages meanwhile."""
    here, _ = trained
    with here.workspace.db.write() as session:
        accounts.put(session, "engineer", Role.ENGINEER, now=utc_now())
        accounts.set_password(session, "engineer", pages_world.PASSWORD)
    with Visitor(here.workspace.settings.service_url, "engineer", pages_world.PASSWORD) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as driver:
        driver.set_window_size(1480, 1250)
        yield driver


def doubted(here: World, right: dict[str, str]) -> Doubted:
    """The surest error of the newest run that has photos and was not asked about."""
    with here.workspace.db.read() as session:
        for row in suspects.ranked(session, Question.CATEGORY, limit=200):
            (listing,) = listings.load(session, ids=[row.listing_id])
            is_right = row.suspect.suggested == right[listing.ref] != listing.category
            if is_right and listing.photos and row.suspect.reasons:
                return Doubted(listing, right[listing.ref], [asdict(reason) for reason in row.suspect.reasons])
    pytest.fail("the run found no error with a photo")


def ask(here: World, found: Doubted) -> None:
    """Put it into the queue for the reasons that the run gave, and push."""
    with here.workspace.db.write() as session:
        for question in Question:
            item = {"question": question.value, "state": "waiting", "reasons": found.reasons, "priority": 0.9, "batch": "b"}
            session.add(ReviewItem(listing_id=found.listing.id, **item, n_wanted=1, created_at=utc_now()))
    assert push.push(here.workspace, now=utc_now()).n_created >= 1  # ties of the panel wait too


def log_in(browser: Any, url: str, person: Moderator) -> None:
    """By Label Studio's own form."""
    browser.get(f"{url}/user/login/")
    browser.find_element("name", "email").send_keys(person.email)
    browser.find_element("name", "password").send_keys(person.password)
    browser.find_element("css selector", "form [type=submit]").click()
    until(lambda: "/user/login" not in browser.current_url, browser)


def until(holds: Any, browser: Any) -> None:
    ends_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends_s:
        if holds():
            return
        time.sleep(0.1)
    seen = Path(tempfile.gettempdir()) / "refurbish-end-to-end.png"
    browser.save_screenshot(str(seen))
    pytest.fail(f"the page did not get there in {PATIENCE_S:g} s; {seen} shows it at {browser.current_url}")


def loaded(browser: Any, where: str) -> bool:
    script = "return [...document.querySelectorAll(arguments[0])].filter(i => i.complete && i.naturalWidth > 0).length"
    return bool(browser.execute_script(script, f"{where} img"))


def choose(browser: Any, path: str) -> None:
    """Take the suggested category away, search for another one and pick it, as a person would."""
    name = path.split(" / ")[-1]
    for remove in browser.find_elements("css selector", ".rf-pick .ant-select-selection-item-remove"):
        remove.click()
    browser.find_element("css selector", ".rf-pick .ant-select-selector").click()
    until(lambda: browser.find_elements("css selector", "[data-testid=taxonomy-search]"), browser)
    browser.find_element("css selector", "[data-testid=taxonomy-search]").send_keys(name)
    script = "return [...document.querySelectorAll('.ant-select-tree-title')].find(e => e.innerText === arguments[0])"
    until(lambda: browser.execute_script(script, name), browser)
    browser.execute_script(script, name).click()
    chosen = "return document.querySelector('.rf-pick .ant-select-selector').innerText"
    until(lambda: path in browser.execute_script(chosen), browser)


def test_log_in_look_change_submit_and_the_ledger_has_it(
    browser: Any, trained: tuple[World, dict[str, str]], people: Three, visitor: Visitor
) -> None:
    """Suggestion, reasons and photos are shown; the changed answer is in the label, its history and our pages."""
    here, right = trained
    found = doubted(here, right)
    ask(here, found)
    assert all(row.ok for row in doctor.check(here.workspace)), doctor.check(here.workspace)
    log_in(browser, here.server.url, people[0])
    browser.get(f"{here.server.url}/projects/{here.project_id}/data?task={here.task_id(found.listing.ref)}")
    until(lambda: loaded(browser, ".rf-photos"), browser)
    until(lambda: loaded(browser, ".rf-near"), browser)
    page = browser.find_element("css selector", ".rf").text
    for part in (f"The seller chose {found.listing.category}", "most similar verified listings are in", found.right):
        assert part in page, page
    if "REFURBISH_SCREENSHOT" in os.environ:
        browser.save_screenshot(os.environ["REFURBISH_SCREENSHOT"])
    other = unlike(right, found.right)
    cell = f"/quality/cell?{urlencode({'given': found.listing.category, 'true': other})}"
    assert found.listing.ref not in visitor.get(cell).text
    choose(browser, other)
    until(lambda: is_submitted(browser, here, found.listing.ref), browser)
    until(lambda: here.label(found.listing.ref) == (other, "moderators"), browser)
    with here.workspace.db.read() as session:
        told = history.of(session, found.listing.ref)
    assert (told.changes[-1].old_value, told.changes[-1].value) == (found.listing.category, other) or told.changes[
        -2
    ].value == other
    assert found.listing.ref in visitor.get(cell).text
    assert html.escape(other) in visitor.get(f"/listing/{found.listing.ref}").text
    said = {one.question: one.origin for one in told.annotations}
    assert said == {"category": "manual", "violation": "prediction"}  # what was suggested was taken away, not changed


def is_submitted(browser: Any, here: World, ref: str) -> bool:
    """Press Submit, again where the editor was still keeping a draft."""
    if here.tasks()[ref]["annotations"]:
        return True
    browser.execute_script("[...document.querySelectorAll('button')].find(b => b.innerText.trim() === 'Submit')?.click()")
    time.sleep(0.5)
    return bool(here.tasks()[ref]["annotations"])


def unlike(right: dict[str, str], path: str) -> str:
    """Another category, with a name of its own."""
    names = [one.split(" / ")[-1] for one in sorted(set(right.values()))]
    return next(
        one for one in sorted(set(right.values())) if one != path and sum(one.split(" / ")[-1] in name for name in names) == 1
    )
