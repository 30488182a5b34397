"""How long a moderator waits for a live suggestion: `/ml/predict` for one listing with two photos.

    python -m tests.benchmarks.predict [--n 200] [--home DIR]

Over a trained model of a generated catalog (or of the workspace at DIR, which is not changed), through a real `refurbish serve`.
Prints p50 and p95 of the request, and beside them what of it is reading the photos and scoring, in this process.
"""

import argparse
import base64
import contextlib
import http.client
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import delete, select

from curation import settings as settings_module
from curation.catalog.scorer import Scorer
from curation.labelstudio import predict as predicting
from curation.release import registry
from curation.review import suggestions
from curation.store import listings
from curation.store.tables import ReviewItem, SuspectRow
from curation.store.workspace import Workspace
from curation.types import BLIND_BATCH, Listing
from tests import pages_world
from tests.serving import SECRET, served

BAR_MS = 50.0
N_WARM = 5


def main() -> None:
    """The figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200, help="requests")
    parser.add_argument("--home", type=Path, help="a workspace with a live model (default: one is made)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        if options.home is None:
            pages_world.build(home, n=600)
        else:
            shutil.copytree(options.home, home)
        report(home, Path(folder), options.n)


def report(home: Path, folder: Path, n: int) -> None:
    """Measure and print."""
    workspace = Workspace.open(settings_module.load(home=home))
    asked = with_two_photos(workspace)
    scorer = live(workspace)
    print(f"{len(asked)} listings with two photos, model in {scorer.precision}, {n} requests one after the other")
    with served(folder / "service", workspace.settings.url, home=home) as service:
        known = through_http(service.port, asked, n)
        before_s = cpu_s(service.process.pid)
        new = through_http(service.port, forgotten(workspace, asked), n)
        cpu_ms = 1000 * (cpu_s(service.process.pid) - before_s) / (n + N_WARM)
    tell("request, suggestion of the newest run", known)
    tell("request, the live model answers", new)
    print(f"  of it: {cpu_ms:.1f} ms CPU of the service; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"bar: p95 under {BAR_MS:g} ms: {'met' if p95(known) < BAR_MS and p95(new) < BAR_MS else 'MISSED'}")
    tell("  of it: looking up, reading photos, scoring", each(asked, n, lambda one: list(answers(workspace, one, scorer))))
    tell("  of it: text and photos into arrays", each(asked, n, lambda one: scorer.featurizer.transform([one], workspace.media)))
    ready = {one.ref: scorer.featurizer.transform([one], workspace.media) for one in asked}
    tell("  of it: the model itself", each(asked, n, lambda one: scorer.predict(ready[one.ref])))
    workspace.close()


def live(workspace: Workspace) -> Scorer:
    """The live model."""
    with workspace.db.read() as session:
        model = registry.live(session)
        assert model is not None, "no model is live; train one first: refurbish retrain"
        print(f"version {suggestions.version(session)}")
    return Scorer.load(workspace.files, model.onnx_sha256, model.sidecar_sha256, workspace.settings.precision)


def with_two_photos(workspace: Workspace) -> list[Listing]:
    """Those with exactly two, but what is asked blind, which gets no answer."""
    with workspace.db.read() as session:
        blind = set(session.execute(select(ReviewItem.listing_id).where(ReviewItem.batch == BLIND_BATCH)).scalars())
        found = [one for page in listings.pages(session) for one in page if len(one.photos) == 2 and one.id not in blind]
    assert found, "no listing has two photos"
    return found


def forgotten(workspace: Workspace, asked: list[Listing]) -> list[Listing]:
    """The same listings, of which no run has said anything: the live model must answer."""
    with workspace.db.write() as session:
        session.execute(delete(SuspectRow).where(SuspectRow.listing_id.in_([one.id for one in asked])))
    return asked


def answers(workspace: Workspace, one: Listing, scorer: Scorer) -> Any:
    return predicting.answers(workspace, [{"data": {"listing_id": one.ref}}], scorer)


def through_http(port: int, asked: list[Listing], n: int) -> list[tuple[float, float]]:
    """Wall milliseconds of each request over one connection, as Label Studio's session keeps it; CPU is another process's."""
    token = base64.b64encode(f"refurbish:{SECRET}".encode()).decode()
    headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(one: Listing) -> None:
        body = {"tasks": [{"id": one.id, "data": {"listing_id": one.ref, "title": one.title}}], "label_config": "<View/>" * 2000}
        connection.request("POST", "/ml/predict", json.dumps(body), headers)
        answer = connection.getresponse()
        (result,) = json.loads(answer.read())["results"]
        assert answer.status == 200 and result["result"], result

    return each(asked, n, ask)


def cpu_s(group: int) -> float:
    """CPU seconds of a process group so far."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if int(fields[2]) == group else 0.0
    return total


def each(asked: list[Listing], n: int, do: Callable[[Listing], Any]) -> list[tuple[float, float]]:
    """(wall ms, CPU ms of this process) of each of n calls, after some that do not count."""
    found = []
    for at in range(-N_WARM, n):
        wall, cpu = time.perf_counter(), time.process_time()
        do(asked[at % len(asked)])
        if at >= 0:
            found.append((1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)))
    return found


def p95(measured: list[tuple[float, float]]) -> float:
    return float(np.quantile([wall for wall, _ in measured], 0.95))


def tell(name: str, measured: list[tuple[float, float]]) -> None:
    wall, cpu = np.array(measured).T
    print(f"{name:<48} p50 {np.median(wall):6.1f} ms  p95 {np.quantile(wall, 0.95):6.1f} ms  CPU here {cpu.mean():6.1f} ms")


if __name__ == "__main__":
    main()
