"""One Label Studio for all live tests, a fresh workspace and project for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.labelstudio_people import Moderator
from tests.labelstudio_server import LabelStudioServer, is_installed, running
from tests.live.world import World, world


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs minutes and a real Label Studio."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.labelstudio)


@pytest.fixture(scope="session")
def labelstudio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    """A server over a copy of the migrated template."""
    if not is_installed():
        pytest.skip("Label Studio is not installed; run `make labelstudio`")
    with running(tmp_path_factory.mktemp("live") / "labelstudio") as server:
        yield server


@pytest.fixture
def here(labelstudio: LabelStudioServer, tmp_path: Path) -> Iterator[World]:
    """A workspace with six listings, not yet set up in Label Studio."""
    with world(labelstudio, tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def people(labelstudio: LabelStudioServer) -> Iterator[tuple[Moderator, Moderator, Moderator]]:
    """Three signed-in moderators."""
    found = tuple(labelstudio.moderator(f"{name}@example.com") for name in ("anna", "bela", "carla"))
    yield found[0], found[1], found[2]
    for person in found:
        person.close()
