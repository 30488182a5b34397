"""Where a database file may be. SQLite loses data on those that are shared between machines."""

import os
from pathlib import Path

from curation.errors import DatabaseError

TABLE = Path("/proc/self/mountinfo")
"""Linux's table of mounts; other systems have none."""

NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "fuse.sshfs", "fuse.glusterfs", "glusterfs", "lustre", "beegfs"}
)
"""SQLite's locks do not hold between machines (https://www.sqlite.org/useovernet.html), and WAL needs shared memory."""

ADVICE = "{file} is on {kind}, where SQLite loses data; move `home` to a local disk or set database_url to PostgreSQL"


def kind_of(file: Path, table: Path | None = None) -> str | None:
    """The type of the file system, or None where it cannot be told. `table`: see TABLE."""
    mounts = TABLE if table is None else table
    if not mounts.is_file():
        return None
    return _deepest(file.resolve(), mounts.read_text(encoding="utf-8", errors="replace"))


def require_usable(file: Path) -> None:
    """Raises DatabaseError where SQLite must not be, on a network file system, and where it cannot write."""
    kind = kind_of(file)
    if kind in NETWORK:
        raise DatabaseError(ADVICE.format(file=file, kind=kind))
    for path in (file.parent, file):
        if path.exists() and not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            advice = "give it to the user that runs this, or choose another --home"
            raise DatabaseError(f"{path} cannot be written by user {os.geteuid()}, or its file system is read-only; {advice}")


def _deepest(path: Path, table: str) -> str:
    """Type of the deepest (then last) mount that holds the path; fields as in proc_pid_mountinfo(5)."""
    best, kind = -1, "an unknown file system"
    for line in table.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = fields[4].encode().decode("unicode_escape")
        if path.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), right.split(" ")[0]
    return kind
