"""Kernels are compiled when the engine is imported, and nothing is compiled afterwards."""

import os
import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core import event
from numba.core.registry import CPUDispatcher

import retrieval_draft.drafting.kernels
import retrieval_draft.store.kernels
from retrieval_draft.step import SequenceStart, TreeShape, VerifyCost
from retrieval_draft.store.kernel_cache import drop_stale
from retrieval_draft.tree import int32s
from tests.engine.driving import METHODS, caller, part, rows, running_engine, warm
from tests.kernels.twins import TWINS
from tests.kernels.twins_segment import TWO_WIDTHS

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="the JIT is switched off"
)


def kernels() -> dict[str, Any]:
    """Every kernel of the package, as module.name."""
    found = {}
    for package in (retrieval_draft.store.kernels, retrieval_draft.drafting.kernels):
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for name, value in vars(import_module(info.name)).items():
                if isinstance(value, CPUDispatcher) and value.py_func.__module__ == info.name:
                    found[f"{info.name.rpartition('.')[2]}.{name}"] = value
    return found


def test_every_kernel_has_a_plain_python_twin() -> None:
    assert sorted(kernels()) == sorted(TWINS)


def test_every_kernel_is_compiled_for_its_signatures_once_the_engine_is_imported() -> None:
    import retrieval_draft.engine  # noqa: F401 - for what the import does

    expected = {name: 2 if name in TWO_WIDTHS else 1 for name in TWINS}
    assert {name: len(kernel.signatures) for name, kernel in kernels().items()} == expected


def test_a_whole_session_compiles_nothing() -> None:
    text = [3, 4, 5, 6, 3, 4, 5, 7] * 8
    cost = VerifyCost(int32s([0, 64]), np.array([1.0, 2.0], np.float32))
    before = {name: len(kernel.signatures) for name, kernel in kernels().items()}
    with event.install_recorder("numba:compile") as compiled, running_engine() as engine:
        warm(engine, "books", text, [9, 3, 4, 5])
        calls = caller(engine)
        for number, method in enumerate(METHODS):
            for shape in TreeShape:
                name = f"{method}-{shape}"
                start = SequenceStart(0, temperature=0.5, end_tokens=(99,), corpora=("books",))
                opening = part(name, 0, text, prompt=8, start=start, rows=rows([1], [[5, 6]]))
                options = {"method": method, "shape": shape, "verify_cost": cost}
                tree = calls.tree(opening, **options)
                follow = int(tree.token[0]) if len(tree) else 3
                seen = rows([len(text), -1], [[number, 1], [2, 3]])
                verified = part(
                    name, len(text), [follow, 5], rows=seen,
                    verified_step=calls.step_id, accepted=-1,
                )  # fmt: skip
                calls.step(verified, batch_nodes_max=5, **options)
                calls.step(part(name, len(text) - 2, [5, 7, 8]), **options)
                calls.step(part(name, len(text) + 1, [4], finished=True), **options)
        assert engine.flush(5.0)
    assert not compiled.buffer
    assert {name: len(kernel.signatures) for name, kernel in kernels().items()} == before


def test_a_changed_source_throws_all_compiled_kernels_away(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        (folder / "__pycache__").mkdir(parents=True)
        (folder / "kernel.py").write_text("")
    compiled = other / "__pycache__" / "kernel.main-1.nbi"
    assert drop_stale((one, other))
    compiled.write_text("")
    assert not drop_stale((one, other))
    assert compiled.exists()
    os.utime(one / "kernel.py", ns=(1, 1))
    assert drop_stale((one, other))
    assert not compiled.exists()
