"""What a task shows beside the listing, completed by the live model: its suggestion where no run has one, and neighbours."""

from collections.abc import Sequence
from dataclasses import replace

from curation import telemetry
from curation.catalog.scorer import Scorer
from curation.errors import RefurbishError
from curation.release import registry
from curation.release.labels import renamed_paths
from curation.review import neighbours, suggestions
from curation.review.neighbours import Atlas
from curation.review.queue import Task
from curation.store.workspace import Workspace

log = telemetry.logger("briefing")


class Briefing:
    """The live model and the verified listings, loaded once for many tasks. Without a model tasks stay as they are."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        with workspace.db.read() as session:
            live = registry.live(session)
            self.version = suggestions.version(session)  #: of all suggestions
            self._renames = renamed_paths(session)
        self._scorer: Scorer | None = None
        self._atlas: Atlas | None = None
        if live is None:
            return
        try:
            self._scorer = Scorer.load(workspace.files, live.onnx_sha256, live.sidecar_sha256, workspace.settings.precision)
            self._atlas = neighbours.atlas(workspace, self._scorer)
        except RefurbishError as error:
            log.warning("tasks are shown without the live model's part", model=live.name, error=str(error))

    def complete(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks with everything that they may show; those asked blind show neither suggestion nor neighbours."""
        scorer, seeing = self._scorer, [task for task in tasks if not task.is_blind]
        if scorer is None or not seeing:
            return list(tasks)
        without = [task.listing for task in seeing if task.suggestion is None]
        made = (
            suggestions.by_model(scorer, without, self.workspace.media, renames=self._renames, named=self.version)
            if without
            else {}
        )
        near = self._near(scorer, seeing)
        return [task if task.is_blind else _completed(task, made, near.get(task.listing.id, ())) for task in tasks]

    def _near(self, scorer: Scorer, tasks: Sequence[Task]) -> dict[int, tuple[neighbours.Near, ...]]:
        if self._atlas is None:
            return {}
        try:
            return self._atlas.near(scorer, [task.listing for task in tasks], self.workspace)
        except RefurbishError as error:
            log.warning("tasks are shown without neighbours", error=str(error))
            return {}


def _completed(task: Task, made: dict[int, suggestions.Suggestion], near: tuple[neighbours.Near, ...]) -> Task:
    said = neighbours.reason(near)
    reasons = (*task.reasons, said) if said is not None else task.reasons
    return replace(task, suggestion=task.suggestion or made.get(task.listing.id), reasons=reasons, near=near)
