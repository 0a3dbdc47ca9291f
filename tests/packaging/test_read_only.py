"""A container's root cannot be written: the kernels of the image are used as they are, none is compiled."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.caching import UserProvidedCacheLocator

import retrieval_draft.engine  # for what the import compiles
from retrieval_draft.drafting import kernels as drafting_kernels
from retrieval_draft.store import kernels as store_kernels
from retrieval_draft.store.folder import find_socket
from retrieval_draft.store.kernel_cache import CACHE_VARIABLE, make_writable

assert retrieval_draft.engine
PROGRAM = (sys.executable, "-m", "retrieval_draft")
SECONDS_MAX = 120
# Root may write whatever the mode says, unless that right is taken away.
UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
AS_OTHERS = UNPRIVILEGED if os.geteuid() == 0 else ()

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="the JIT is switched off"
    ),
    pytest.mark.skipif(
        bool(AS_OTHERS) and shutil.which("setpriv") is None, reason="root, and there is no setpriv"
    ),
]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A NUMBA_CACHE_DIR with every kernel, which nobody can write."""
    cache = tmp_path / "kernels"
    for package in (store_kernels, drafting_kernels):
        folder = Path(package.__path__[0])
        name = UserProvidedCacheLocator.get_suitable_cache_subpath(str(folder / "any.py"))  # type: ignore[no-untyped-call]
        (cache / name).mkdir(parents=True)
        for compiled in (folder / "__pycache__").glob("*.nb[ic]"):
            shutil.copy(compiled, cache / name)
        (cache / name).chmod(0o555)
    cache.chmod(0o555)
    return cache


def test_a_sidecar_that_may_write_nowhere_compiles_nothing(filled: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = os.environ | {
        CACHE_VARIABLE: str(filled),
        "NUMBA_DEBUG_CACHE": "1",
        "TMPDIR": str(temporary),
    }
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*AS_OTHERS, *PROGRAM, "serve", "--redis", "none", "--data", str(tmp_path / "data")],
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            said = _said(process, log)
            assert health(find_socket(tmp_path / "data")) == (0, "")
            assert health(tmp_path / "nobody.sock")[0] == 1
        finally:
            process.terminate()
            process.wait(SECONDS_MAX)
    assert process.returncode == 0
    assert said.count("data loaded from") > 50
    assert "saved" not in said
    assert not list(temporary.iterdir()), "its own folder is gone with it"


def health(socket: Path) -> tuple[int, str]:
    """What the container's health check says of a sidecar there."""
    script = Path(__file__).parents[2] / "docker" / "health.py"
    done = subprocess.run(
        [sys.executable, str(script), f"unix:{socket}"], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stderr.strip()


def test_what_the_cache_lacks_is_compiled_for_this_process_alone(tmp_path: Path) -> None:
    cache, temporary = tmp_path / "cache", tmp_path / "tmp"
    for folder in (cache, temporary):
        folder.mkdir()
    (tmp_path / "kernel.py").write_text(
        "from retrieval_draft.store.kernel_cache import make_writable\n"
        "print(make_writable() is not None)\n"
        "from numba import int64, njit\n"
        "@njit(int64(int64), cache=True)\n"
        "def double(x):\n    return 2 * x\n"
        "print(double(21), double.stats.cache_path)\n"
    )
    cache.chmod(0o555)
    said = subprocess.run(
        [*AS_OTHERS, sys.executable, str(tmp_path / "kernel.py")],
        env=os.environ
        | {
            CACHE_VARIABLE: str(cache),
            "TMPDIR": str(temporary),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        },
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(f"True\n42 {temporary}")
    assert not list(cache.iterdir())


def test_a_cache_that_can_be_written_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "to" / "be" / "made"))
    assert make_writable() is None
    monkeypatch.delenv(CACHE_VARIABLE)
    assert make_writable((tmp_path,)) is None


def _said(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """All that a sidecar wrote up to the line that says where it serves."""
    for _ in range(SECONDS_MAX * 10):
        text = log.read_text()
        if "\nserving on " in text or text.startswith("serving on "):
            return text
        if process.poll() is not None:
            break
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(f"it did not start: {log.read_text()[-2000:]}")
