"""Checks that decide whether the service starts and takes traffic."""

from pathlib import Path

import pytest

from curation.store import health
from curation.store.db import Database

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /srv rw - nfs4 server:/export rw
31 30 254:1 / /srv/local rw - xfs /dev/vdb rw
32 22 0:41 / /mnt/with\\040space rw master:1 - cifs //server/share rw
33 22 0:42 / /over rw - ext4 /dev/vdc rw
34 33 0:43 / /over rw - fuse.sshfs host: rw
broken line
"""


@pytest.mark.parametrize(
    ("file", "state", "kind"),
    [
        ("/data/refurbish.db", "ok", "ext4"),
        ("/srv/refurbish.db", "failed", "nfs4"),
        ("/srv/local/refurbish.db", "ok", "xfs"),
        ("/srvother/refurbish.db", "ok", "ext4"),
        ("/mnt/with space/refurbish.db", "failed", "cifs"),
        ("/over/refurbish.db", "failed", "fuse.sshfs"),
    ],
)
def test_sqlite_on_a_network_file_system_is_told(tmp_path: Path, file: str, state: str, kind: str) -> None:
    """The deepest mount counts, and of two on one point the later (fault 76)."""
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS)
    found = health.sqlite_is_local(Path(file), table)
    assert found.state == state and f"on {kind}" in found.words


def test_a_system_without_a_table_of_mounts_gets_a_warning(tmp_path: Path) -> None:
    """Nothing is claimed that was not seen."""
    assert health.sqlite_is_local(tmp_path / "x.db", tmp_path / "none").state == "warning"


def test_a_database_that_is_away_fails_the_checks_and_raises_nothing() -> None:
    """Doctor goes on to the next check."""
    db = Database("postgresql+psycopg://u:canary-5711@127.0.0.1:1/x", busy_timeout_s=1)
    found = [health.database_answers(db), health.database_takes_writes(db), health.schema_is_current(db), health.clocks_agree(db)]
    assert all(check.is_failed for check in found) and "canary-5711" not in repr(found)


def test_a_folder_that_is_gone_fails_the_check(tmp_path: Path) -> None:
    """A disk that was unmounted, or removed under us (fault 76)."""
    assert health.folder_is_writable(tmp_path / "gone").is_failed
