"""Text that means harm, wherever people or files can put it, shown by a real browser: nothing runs, nothing is asked for."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import update

from curation.release import exports
from curation.store import jobs, people, reports
from curation.store.people import Role
from curation.store.reports import Given
from curation.store.service_tables import ExportRow
from curation.store.tables import JobRow
from curation.store.workspace import Workspace, set_state, utc_now
from curation.types import Question
from curation.worker import Worker
from tests import browser as look_at
from tests import builders, review_world
from tests.conftest import make_workspace
from tests.integration.test_runs_pages import add_models, add_run, report
from tests.page_client import EVIL
from tests.serving import Served, served
from tests.visitor import Visitor

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not look_at.HAS_BROWSER, reason="needs chromium and chromedriver")]

PASSWORD = "a password for harm"
NAME = "<img src=x onerror=alert(2)>"
"""Of a person: printable, up to 120 characters."""

PAYLOADS = (
    EVIL,
    "</title><svg onload=alert(3)>",
    "' style='background:url(//evil.example)",
    "javascript:alert(4)",
    "</td><iframe>",
)


def _filled(workspace: Workspace) -> None:
    """Hostile listings, categories, sellers, moderators, reporters, runs, models, exports and errors."""
    now, path = utc_now(), f"Home / {EVIL}"
    texts = {"title": EVIL, "description": EVIL, "seller_ref": EVIL[:200], "attributes": {EVIL: EVIL}, "category": path}
    builders.add(workspace, *(builders.record(f"r{at}", **texts) for at in range(22)), builders.record(EVIL, title=PAYLOADS[1]))
    builders.add(workspace, *(builders.record(f"p{at}", title=text, description=text) for at, text in enumerate(PAYLOADS)))
    review_world.answer_all(workspace, [(f"r{at}", path, EVIL[:60]) for at in range(21)])
    doubted = [review_world.suspect(f"p{at}", "Home / Garden", path, 0.9) for at in range(len(PAYLOADS))]
    review_world.rank(workspace, Question.CATEGORY, *doubted)
    told = report(EVIL)
    told["gate"]["words"] = told["gate"]["checks"][0]["words"] = EVIL
    told["challenger"]["violations"] = told["champion"]["violations"] = {EVIL: told["challenger"]["violations"]["scam"]}
    told["curves"] = {side: {EVIL: told["curves"][side]["scam"]} for side in told["curves"]}
    add_models(workspace, now, run_id=add_run(workspace, now, told, trigger=EVIL))
    add_run(workspace, now, {"error": EVIL}, state="failed", trigger=EVIL)
    with workspace.db.write() as session:
        for name in ("admin", NAME):
            people.put(session, name, Role.ADMIN, now=now)
            people.set_password(session, name, PASSWORD)
        reports.add(session, [Given("r0", "other", words, EVIL[:200], now) for words in PAYLOADS], via="api", now=now)
        jobs.enqueue(session, "push", {}, key="push", now=now)
        session.execute(update(JobRow).values(state="dead", error=EVIL, finished_at=now))
        exports.ask(session, "csv", by=NAME, now=now)
        set_state(session, "labelstudio.project", {"id": 1, "url": f'http://x/"><script>{EVIL}'}, now=now)
    Worker(workspace, ["export", "insight"]).run(until_idle=True)
    with workspace.db.write() as session:
        exports.ask(session, "hf", by=NAME, now=now)
        session.execute(update(ExportRow).where(ExportRow.format == "hf").values(state="failed", error=EVIL))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The real service over this workspace."""
    folder = tmp_path_factory.mktemp("hostile")
    workspace = make_workspace(folder / "home", f"sqlite:///{folder / 'home' / 'refurbish.db'}")
    _filled(workspace)
    workspace.close()
    with served(
        folder, f"sqlite:///{folder / 'home' / 'refurbish.db'}", home=folder / "home", login_limit="99/minute"
    ) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def browser(service: Served) -> Iterator[Any]:
    """A headless Chromium, signed in under a hostile name."""
    with look_at.chromium() as made:
        look_at.sign_in(made, f"http://127.0.0.1:{service.port}", NAME, PASSWORD)
        yield made


def _addresses(service: Served) -> dict[str, str]:
    """One address of each kind of page that links lead to, and pages that repeat what the address says."""
    with Visitor(f"http://127.0.0.1:{service.port}", "admin", PASSWORD) as visitor:
        found = visitor.pages()
    evil = quote(EVIL)
    more = {
        "listing by ref": f"/listing?ref={evil}",
        "search": f"/listing?q={evil}",
        "unknown listing": f"/listing?ref=x{evil}",
        "unknown model": f"/models/{quote(EVIL, safe='')}",
        "unknown run": "/runs/99999",
        "unknown page": f"/{evil}",
        "wrong argument": f"/suspects?question={evil}",
        "wrong before": f"/runs?before={evil}",
        "filter": f"/suspects?given={evil}&suggested={evil}",
        "branch": f"/quality?branch={quote('Home / ' + EVIL)}",
        "cell": f"/quality/cell?given={quote('Home / ' + EVIL)}",
        "reports of a reason": f"/reports?reason={evil}",
        "sign in again": f"/login?next={evil}",
        **{f"listing {at}": f"/listing/p{at}" for at in range(len(PAYLOADS))},
    }
    return found | more


LIVE = "return [...document.querySelectorAll('script,iframe,object,embed,base,svg[onload]')].map(e => e.outerHTML).concat(\
[...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => a.name.startsWith('on') || a.name == 'style'\
|| /^\\s*javascript:/i.test(a.value) && ['href', 'src', 'action'].includes(a.name))).map(e => e.outerHTML.slice(0, 200)))"


def test_hostile_text_is_inert_on_every_page(browser: Any, service: Served) -> None:
    """No element of it, no script, no request elsewhere, no word of the content security policy in the console (fault 67)."""
    url, wrong, n_shown = f"http://127.0.0.1:{service.port}", [], 0
    addresses = _addresses(service)
    for kind, path in addresses.items():
        browser.get(url + path)
        said = [line for line in look_at.complaints(browser) if "the server responded with a status of 4" not in line]
        wrong += [f"{kind}: {words}" for words in said + browser.execute_script(LIVE)]
        asked = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        wrong += [f"{kind} asks {name}" for name in asked if not name.startswith(url) or "/x" in name.removeprefix(url)]
        n_shown += "onerror=alert" in browser.execute_script("return document.body.innerText")
    assert wrong == [] and len(addresses) > 25
    assert n_shown > 15, "the hostile texts are not on the pages"


def _until(browser: Any, is_so: Callable[[], Any]) -> Any:
    """What it gives as soon as that is true; ten seconds at most."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 10).until(lambda _: is_so())


def test_a_wrong_password_shows_text_only(browser: Any, service: Served) -> None:
    """What was typed comes back as text (fault 67)."""
    look_at.sign_in(browser, f"http://127.0.0.1:{service.port}", EVIL, "wrong")
    _until(browser, lambda: browser.find_elements("id", "problem"))
    assert browser.execute_script("return document.getElementById('name').value").startswith("<script>")
    assert browser.execute_script(LIVE) == []
    assert all("status of 401" in words for words in look_at.complaints(browser))


def test_downloads_are_never_shown_as_pages(service: Served) -> None:
    """CSV, JSON and files of an export come as attachments whose type no browser guesses anew (fault 67)."""
    with Visitor(f"http://127.0.0.1:{service.port}", "admin", PASSWORD) as visitor:
        for path in ("/suspects?table=doubted&as=csv", "/listing?ref=r0&table=history&as=json", "/exports/1/files/README.md"):
            answer: httpx.Response = visitor.get(path)
            assert answer.headers["Content-Disposition"].startswith("attachment"), path
            assert answer.headers["X-Content-Type-Options"] == "nosniff" and "html" not in answer.headers["Content-Type"]


FRAME = (
    "data:text/html,<iframe src='{}' onload='document.title=1'></iframe><form method=post action='{}'><button>go</button></form>"
)


def test_another_site_can_neither_frame_nor_post(browser: Any, service: Served) -> None:
    """The frame stays empty, and a form sent from elsewhere with the person's cookie at hand changes nothing (fault 68)."""
    url = f"http://127.0.0.1:{service.port}"
    look_at.sign_in(browser, url, NAME, PASSWORD)
    _until(browser, lambda: browser.find_elements("css selector", "form[action='/logout']"))
    browser.get(FRAME.format(f"{url}/account", f"{url}/logout"))
    browser.switch_to.frame(0)
    _until(browser, lambda: browser.execute_script("return document.URL") != "about:blank")
    assert browser.execute_script("return document.URL").startswith("chrome-error:")
    browser.switch_to.default_content()
    browser.find_element("css selector", "button").click()
    _until(browser, lambda: browser.current_url.startswith(url))
    browser.get(f"{url}/account")
    assert browser.find_elements("css selector", "form[action='/logout']"), "the person was signed out by another site"
