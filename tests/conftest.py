"""For all tests: nothing of this machine's user is read or written."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Where there is no GPU, Triton's kernels are tested by its interpreter; it asks once, when it is imported.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder of the tests' own, in case one forgets to name its."""
    home = tmp_path_factory.mktemp("xdg")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("RETRIEVAL_DRAFT_")]:
            patch.delenv(name)
        patch.setenv("XDG_DATA_HOME", str(home))
        patch.setenv("XDG_CACHE_HOME", str(home))
        yield home
