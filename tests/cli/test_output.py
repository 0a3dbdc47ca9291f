"""What verbs say beside their data."""

import subprocess
import sys

import pytest

from retrieval_draft.cli.figures import print_namespace
from retrieval_draft.cli.output import out, progress, said_if_slow
from retrieval_draft.v1.store_pb2 import NamespaceStats
from tests.engine.driving import wait_for

# In a process of its own: what this one has imported must not count.
LOADED = """
import sys
from retrieval_draft.cli.doctor import kernels
(finding,) = kernels()
before = {name for name in sys.modules if ".kernels." in name}
import retrieval_draft.server.lifecycle
later = {name for name in sys.modules if ".kernels." in name and name.startswith("retrieval_draft.")}
print(finding.state, sorted(later - before))
"""


def test_doctor_loads_every_kernel_of_a_sidecar() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "ok []\n"


def test_what_is_slow_is_said_once_and_what_is_quick_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with said_if_slow("compiling", seconds=0.0):
        wait_for(lambda: capsys.readouterr().err == "compiling\n")
    with said_if_slow("compiling", seconds=3600.0):
        pass
    assert capsys.readouterr().err == ""


def test_no_bar_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as bar:
        bar.update(bar.add_task("replaying", total=2), completed=2)
    assert capsys.readouterr() == ("", "")


def test_a_namespace_that_drafted_nothing_yet_shows_no_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = []
    for p50 in (0, 733):
        print_namespace(NamespaceStats(namespace="demo", draft_us_p50=p50), out(), full=False)
        shown.append(capsys.readouterr().out)
    assert "draft p50" not in shown[0]
    assert "draft p50 733 us" in shown[1]
