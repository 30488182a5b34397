"""The labeling page in a real browser: what a moderator sees, and what Submit stores."""

import csv
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.catalog import ingest, sample
from curation.labelstudio import push, tasks
from curation.review.neighbours import Near
from curation.store.workspace import utc_now
from curation.types import BLIND_BATCH
from tests import builders
from tests.labelstudio_people import Moderator
from tests.labelstudio_server import LabelStudioServer
from tests.live.world import SECRET, World, world
from tests.serving import served

webdriver = pytest.importorskip("selenium.webdriver")
PATIENCE_S = 40
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")

Three = tuple[Moderator, Moderator, Moderator]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=1480,1010"):
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A sample catalog, and listing ref → right category of listings whose seller was wrong."""
    out = tmp_path_factory.mktemp("sample")
    sample.generate(out, n=150, seed=4)
    with (out / "truth.csv").open() as file:
        wrong = {row["id"]: row["category"] for row in csv.DictReader(file) if row["is_wrong"] == "1"}
    return out, wrong


@pytest.fixture
def here(
    request: pytest.FixtureRequest, labelstudio: LabelStudioServer, catalog: tuple[Path, dict[str, str]], tmp_path: Path
) -> Iterator[World]:
    """The sample in a workspace, with the real service giving out its photos."""
    url = f"sqlite:///{tmp_path / 'refurbish.db'}"
    title = "Refurbish review" if "shows_all" in request.node.name else "Refurbish blind review"
    with (
        served(tmp_path, url, webhook_secret=SECRET) as service,
        world(labelstudio, tmp_path, 0, port=service.port, label_studio_project=title) as made,
    ):
        ingest.run(made.workspace, catalog[0] / "listings.csv", ingest.Options(), now=utc_now())
        made.set_up()
        yield made


def open_task(browser: Any, here: World, person: Moderator, ref: str) -> None:
    """Show the page of a task to a signed-in person, and wait for its photo."""
    sign_in(browser, here.server.url, person)
    browser.get(f"{here.server.url}/projects/{here.project_id}/data?task={here.task_id(ref)}")
    until(browser, lambda: browser.execute_script(LOADED))


def sign_in(browser: Any, url: str, person: Moderator) -> None:
    """Take the person's session over. A new browser also asks for the site's icon, whose answer ends a session: then again."""
    for _ in range(3):
        browser.get(f"{url}/health")
        browser.delete_all_cookies()
        for cookie in person.session.cookies.jar:
            browser.add_cookie({"name": cookie.name, "value": cookie.value, "path": "/"})
        browser.get(f"{url}/projects/")
        if "/user/login" not in browser.current_url:
            return
    pytest.fail(f"{person.email} is not signed in")


LOADED = "return [...document.querySelectorAll('.rf-photos img')].some(i => i.complete && i.naturalWidth > 0)"


def until(browser: Any, holds: Callable[[], object]) -> None:
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    try:
        WebDriverWait(browser, PATIENCE_S).until(lambda _: holds())
    except TimeoutException:
        seen = Path(tempfile.gettempdir()) / "refurbish-browser.png"
        browser.save_screenshot(str(seen))
        pytest.fail(f"the page did not get there in {PATIENCE_S} s; {seen} shows it at {browser.current_url}")


def text(browser: Any) -> str:
    found: str = browser.execute_script("return document.querySelector('.rf').innerText")
    return found


def press_submit(browser: Any) -> None:
    browser.execute_script("[...document.querySelectorAll('button')].find(b => b.innerText.trim() === 'Submit').click()")


def pick(here: World, wrong: dict[str, str]) -> tuple[str, str, dict[str, Any]]:
    """A listing with several photos, a talkative seller and a wrong category: ref, right category, what the page shows."""
    from curation.store import listings

    with here.workspace.db.read() as session:
        found = [one for one in listings.load(session, refs=list(wrong)) if len(one.photos) > 1]
    best = max(found, key=lambda one: (len(one.description), one.ref))
    return best.ref, wrong[best.ref], {"title": best.title, "seller": best.category}


def test_page_shows_all_and_submit_stores_the_prefilled_answer(
    browser: Any, here: World, people: Three, catalog: tuple[Path, dict[str, str]]
) -> None:
    """Photos come from our service, words and suggestion are there, and Submit keeps its origin and the note."""
    ref, right, listing = pick(here, catalog[1])
    here.suggest([ref], right)
    here.ask(ref, words=f"The seller chose {listing['seller']}; title, photos and price look like {right} (88%).")
    push.push(here.workspace, now=utc_now())
    open_task(browser, here, people[0], ref)
    shown = text(browser)
    for part in (listing["title"], listing["seller"], right, "Violation: none"):
        assert part in shown
    assert browser.execute_script("return document.querySelectorAll('.lsf-errors, .lsf-error').length") == 0
    browser.find_element("css selector", ".rf-pick textarea").send_keys("seen in the browser")
    press_submit(browser)
    until(browser, lambda: here.tasks()[ref]["annotations"])
    (annotation,) = here.tasks()[ref]["annotations"]
    said = {item["from_name"]: (item["value"], item["origin"]) for item in annotation["result"]}
    assert said["category"] == ({"taxonomy": [right.split(" / ")]}, "prediction")
    assert said["violation"] == ({"choices": ["none"]}, "prediction")
    assert said["note"][0] == {"text": ["seen in the browser"]}
    here.work("ingest")
    assert here.label(ref) == (right, "moderators")


def test_blind_page_is_empty_and_cannot_be_submitted(
    browser: Any, here: World, people: Three, catalog: tuple[Path, dict[str, str]]
) -> None:
    """Without a suggestion nothing is prefilled, and an empty answer is not accepted."""
    ref, right, _ = pick(here, catalog[1])
    here.suggest([ref], right)
    here.ask(ref, batch=BLIND_BATCH)
    push.push(here.workspace, now=utc_now())
    open_task(browser, here, people[1], ref)
    assert right not in text(browser)
    assert browser.execute_script("return document.querySelectorAll('.rf-pick input:checked').length") == 0
    press_submit(browser)
    browser.implicitly_wait(1)
    assert here.tasks()[ref]["annotations"] == []


HOSTILE = "<img src=x onerror=window.attacked=1><script>window.attacked=1</script>\u202eevil\u200b{{7*7}} 🧨"


def test_hostile_texts_are_shown_as_they_are_written(browser: Any, here: World, people: Three) -> None:
    """Title, description, price, reason, category of a neighbour: nothing of a seller runs or changes the page."""
    builders.add(
        here.workspace, builders.record("evil", title=HOSTILE, description=HOSTILE * 50, currency="<b>£</b>", seller_ref=HOSTILE)
    )
    here.set_up()
    here.ask("evil", words=HOSTILE)
    push.push(here.workspace, now=utc_now())
    near = [Near("r", HOSTILE, 0.9, None)]
    data = here.tasks()["evil"]["data"] | {"similar": tasks.similar_html(near, here.workspace.settings.service_url)}
    here.api.patch(f"/api/tasks/{here.task_id('evil')}/", json={"data": data}).raise_for_status()
    sign_in(browser, here.server.url, people[0])
    browser.get(f"{here.server.url}/projects/{here.project_id}/data?task={here.task_id('evil')}")
    until(browser, lambda: browser.execute_script("return document.querySelector('.rf-near li')"))
    assert browser.execute_script("return window.attacked") is None
    assert browser.execute_script("return document.querySelectorAll('.rf img[src=x], .rf script').length") == 0
    assert text(browser).count("onerror=window.attacked=1") >= 4
