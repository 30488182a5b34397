"""Branches of the taxonomy: their children, and every name that lies under them, former ones too."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from curation.errors import NotFoundError, shorten
from curation.release.labels import renamed_paths
from curation.store import taxonomy
from curation.types import PATH_SEPARATOR


@dataclass(frozen=True, slots=True)
class Names:
    """What categories are called, and were called before they were renamed or merged."""

    present: frozenset[str]
    renames: Mapping[str, str]  #: former path → present one

    def now(self, path: str) -> str:
        """The present path; a name that nobody knows stays as it is."""
        return self.renames.get(path, path)

    def under(self, branch: str) -> frozenset[str]:
        """The branch itself and all below it, by every name they go or went by."""
        found = {path for path in self.present if lies_under(path, branch)}
        return frozenset(found | {old for old, path in self.renames.items() if lies_under(path, branch)} | {branch})

    def require(self, branch: str) -> None:
        """Raise NotFoundError unless a category of this name is or was there; ``""`` is the whole taxonomy."""
        if branch and branch not in self.present and branch not in self.renames:
            raise NotFoundError(f"there is no category {shorten(branch)}; choose one that is in the taxonomy")


def names(session: Session) -> Names:
    """All names of all categories."""
    return Names(taxonomy.paths(session), renamed_paths(session))


def lies_under(path: str, branch: str) -> bool:
    """The path is the branch or below it; everything lies under ``""``."""
    return not branch or path == branch or path.startswith(branch + PATH_SEPARATOR)


def child(path: str, branch: str) -> str:
    """The child of `branch` that `path` lies under; the branch itself where the path ends there."""
    rest = path if not branch else path[len(branch) + len(PATH_SEPARATOR) :]
    return PATH_SEPARATOR.join(filter(None, (branch, rest.partition(PATH_SEPARATOR)[0])))


def lineage(branch: str) -> tuple[str, ...]:
    """The branch's ancestors from the root on, and itself; nothing of ``""``."""
    parts = branch.split(PATH_SEPARATOR) if branch else []
    return tuple(PATH_SEPARATOR.join(parts[: depth + 1]) for depth in range(len(parts)))
