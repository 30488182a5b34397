"""Setting up, pushing, suggesting and reconciling reach the Label Studio of the settings and our own service, nobody else."""

from urllib.parse import urlsplit

from curation.labelstudio import doctor, push, reconcile, refresh
from curation.store.workspace import utc_now
from tests import builders, outgoing
from tests.live.world import World


def test_only_the_configured_label_studio_is_asked(here: World) -> None:
    """Whatever addresses sellers wrote into their listings (fault 66)."""
    words = "http://evil.example/x file:///etc/passwd //evil.example"
    builders.add(here.workspace, builders.record("evil", title=words, description=words, attributes={"site": words}))
    url, ours = urlsplit(here.server.url), here.workspace.settings
    with outgoing.only((str(url.hostname), int(url.port or 80)), (ours.host, ours.port)) as tried:
        here.set_up()
        here.suggest(["evil", "r0"], "Home / Tools")
        here.ask("evil", "r0")
        push.push(here.workspace, now=utc_now())
        refresh.refresh(here.workspace, now=utc_now())
        reconcile.reconcile(here.workspace, now=utc_now())
        assert [check.name for check in doctor.check(here.workspace) if not check.ok] == ["service"]
    assert tried == [] and set(here.tasks()) == {"evil", "r0"}
