"""A short soak: people, a hostile network and kills at once; it ends in equality with Label Studio's own export."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.soak.proxy import Hostility
from tests.soak.report import differences, rows
from tests.soak.soak import Options, soak

MINUTES = 1.0
LATE_S = (10.0, 25.0)


@pytest.mark.timeout(600)
def test_ledger_equals_label_studios_export_after_a_soak(tmp_path: Path) -> None:
    """Webhooks are dropped, late, doubled and out of order, one is switched off, and both processes are killed: nothing
    is lost, nothing counts twice (faults 9, 11, 12, 21).
    """
    hostility = replace(Hostility(), late_s=LATE_S)
    found = soak(Options(minutes=MINUTES, seed=2, moderators=4, n=60, hostility=hostility), tmp_path)
    print(*rows(found), sep="\n")
    assert not differences(found)
    assert found.noticed_off
    assert found.kills.total() > 0
    assert found.hooks["dropped"] > 0 < found.n_missed
