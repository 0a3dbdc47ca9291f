"""The folders, the packaging map and the links agree, and imports follow the arrows of DESIGN.md §2."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import retrieval_draft
from retrieval_draft.cli import VERBS
from retrieval_draft.step import Learning, Status, TreeShape
from retrieval_draft.tree import SOURCES, TIERS

ROOT = Path(__file__).parents[1]
MAPPED = {"retrieval_draft.store": "store", "retrieval_draft.gpu": "gpu"}
TOP_FOLDERS = {"retrieval_draft", "store", "proto", "gpu", "tests"}
HEAVY = ("numba", "torch", "faiss", "redis", "transformers", "grpc", "numpy", "fsspec", "zstandard")


def setuptools() -> dict[str, dict[str, str]]:
    settings: dict[str, dict[str, str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())[
        "tool"
    ]["setuptools"]
    return settings


def packages() -> dict[str, Path]:
    """Every package there is, with its real folder."""
    found = {}
    for top, folder in {"retrieval_draft": "retrieval_draft", **MAPPED}.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            if not any(part.is_symlink() for part in init.relative_to(ROOT).parents):
                below = init.parent.relative_to(ROOT / folder).parts
                real = ROOT / folder / Path(*below)
                if not any(parent.is_symlink() for parent in (real, *real.parents)):
                    found[".".join((top, *below))] = real
    # v1 is generated code in a namespace portion: it has no __init__.py.
    found["retrieval_draft.v1"] = ROOT / "retrieval_draft" / "v1"
    return found


def test_the_top_folders_are_there() -> None:
    assert {name for name in TOP_FOLDERS if (ROOT / name).is_dir()} == TOP_FOLDERS


def test_every_package_is_in_the_list_that_is_built() -> None:
    assert sorted(setuptools()["packages"]) == sorted(packages())


def test_no_folder_with_modules_lacks_its_init() -> None:
    for top in ("retrieval_draft", "store", "gpu"):
        for module in (ROOT / top).rglob("*.py"):
            assert module.parent.name == "v1" or (module.parent / "__init__.py").exists(), module


def test_links_lead_to_the_mapped_folders() -> None:
    mapped = {name: folder for name, folder in setuptools()["package-dir"].items() if "." in name}
    assert mapped == MAPPED
    for name, folder in MAPPED.items():
        link = ROOT.joinpath(*name.split("."))
        assert link.is_symlink()
        assert link.readlink() == Path("..", folder)


def test_no_second_copy_is_imported_under_a_bare_name() -> None:
    assert not {"store", "gpu", "proto"} & sys.modules.keys()
    assert Path(retrieval_draft.__file__).parent == ROOT / "retrieval_draft"


def test_shipped_data_exist() -> None:
    for package, patterns in setuptools()["package-data"].items():
        for pattern in patterns:
            assert any(packages()[package].glob(pattern)), f"{package}: {pattern}"


# Imports, read from the source: those within functions count, those for type checkers do not.


@cache
def modules() -> dict[str, Path]:
    return {
        name if path.stem == "__init__" else f"{name}.{path.stem}": path
        for name, folder in packages().items()
        for path in folder.glob("*.py")
    }


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        guarded = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not guarded:
            yield child
            yield from _statements(child)


@cache
def imports(module: str) -> frozenset[str]:
    """What this module imports itself, in full names."""
    found: set[str] = set()
    for node in _statements(ast.parse(modules()[module].read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "relative imports are banned"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in modules() else node.module)
    return frozenset(found)


def reached(*starts: str) -> set[str]:
    """All that these modules import, and what that imports in turn."""
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += imports(module) if module in modules() else ()
    return found


def under(package: str) -> list[str]:
    return [name for name in modules() if name == package or name.startswith(f"{package}.")]


def offending(found: set[str], *banned: str) -> list[str]:
    return sorted(n for n in found for b in banned if n == b or n.startswith(f"{b}."))


OURS = "retrieval_draft"
ABOVE_THE_ENGINE = [
    f"{OURS}.{name}"
    for name in ("server", "client", "engine_client", "conversation", "cli", "gpu", "web")
]
ENGINE = [
    f"{OURS}.{name}"
    for name in ("engine", "checks", "feedback", "stores", "namespace", "sequence", "clients")
]


def test_drafting_knows_nothing_of_grpc_redis_or_tenants() -> None:
    found = reached(*under(f"{OURS}.drafting"))
    assert f"{OURS}.store.ring" in found, "the reading of imports works"
    keepers = [f"{OURS}.store.{name}" for name in ("keys", "backend", "records", "redis_backend")]
    assert not offending(found, "grpc", "google", "redis", *ABOVE_THE_ENGINE, *ENGINE, *keepers)


def test_the_store_knows_nothing_of_drafting_or_grpc() -> None:
    found = reached(*under(f"{OURS}.store"))
    assert f"{OURS}.tree" in found
    assert not offending(found, "grpc", "google", f"{OURS}.drafting", *ABOVE_THE_ENGINE, *ENGINE)


def test_the_engine_joins_them_without_grpc() -> None:
    found = reached(f"{OURS}.engine")
    assert {f"{OURS}.drafting.mix", f"{OURS}.store.ring"} <= found
    assert not offending(found, "grpc", "google", f"{OURS}.v1", *ABOVE_THE_ENGINE)


def test_workers_and_commands_draft_only_through_a_client() -> None:
    names = {f"{OURS}.drafting.names"}
    drafting = ("gpu", "cli", "adapters")
    for module in [one for name in drafting for one in under(f"{OURS}.{name}")]:
        used = set(imports(module)) - names
        assert not offending(used, f"{OURS}.drafting", *ENGINE), module


def test_adapters_need_no_worker_but_for_trees_in_torch() -> None:
    trees = f"{OURS}.adapters.transformers_trees"
    assert offending(set(imports(trees)), f"{OURS}.gpu")
    for module in set(under(f"{OURS}.adapters")) - {trees}:
        assert not offending(set(imports(module)), f"{OURS}.gpu"), module


def test_kernels_import_arithmetic_types_and_kernels_alone() -> None:
    allowed = {"math", "numpy", "numpy.typing", "numba", f"{OURS}.tree"}
    # The decorator is typed for the others.
    plumbing = {
        "collections.abc",
        "typing",
        "numba.core.typing.templates",
        f"{OURS}.store.kernel_cache",
    }
    # An array by its address, and an address where nothing is compiled.
    plumbing |= {"numba.np.numpy_support", "ctypes"}
    # An instruction that numba has no name for.
    plumbing |= {"llvmlite", "numba.core.typing.context", "numba.extending"}
    for package in (f"{OURS}.store.kernels", f"{OURS}.drafting.kernels"):
        # Drafting's may use the store's, not the other way round.
        allowed |= set(under(package))
        for module in under(package):
            assert imports(module) <= allowed | plumbing, module


def test_nothing_but_the_worker_its_demo_and_stacks_of_torch_import_torch() -> None:
    stacks = (f"{OURS}.gpu", f"{OURS}.adapters.transformers", f"{OURS}.adapters.sglang")
    for module in modules():
        if not module.startswith(stacks) and module != f"{OURS}.cli.demo":
            assert not offending(set(imports(module)), "torch", "transformers"), module


# What is loaded, seen by running it.


def loaded(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after this statement."""
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300
    )
    return set(ended.stdout.splitlines()[-1].split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not offending(loaded("import retrieval_draft"), *HEAVY)


def test_importing_the_engine_loads_no_grpc_and_no_torch() -> None:
    found = loaded("import retrieval_draft.engine")
    assert "numba" in found
    assert not offending(found, "grpc", "google.protobuf", "torch", "redis", "faiss")


def test_importing_the_client_loads_no_numba() -> None:
    """Every command would wait seconds for it."""
    found = loaded("import retrieval_draft.client, retrieval_draft.warming")
    assert "grpc" in found
    assert not offending(found, "numba", "torch", "redis", "faiss", f"{OURS}.engine")


def test_help_loads_no_numba_torch_faiss_or_redis() -> None:
    statement = """
from click.testing import CliRunner
from retrieval_draft.cli import VERBS, cli
for words in [[], *([verb] for verb in VERBS)]:
    answer = CliRunner().invoke(cli, [*words, "--help"])
    assert answer.exit_code == 0, (words, answer.output)
    assert "Usage: " in answer.output
"""
    assert not offending(loaded(statement), "numba", "torch", "faiss", "redis", "transformers")


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_every_verb_explains_itself(verb: str) -> None:
    words = [verb, "--help"] if verb else ["--help"]
    ended = subprocess.run(
        [sys.executable, "-m", "retrieval_draft", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"Usage: retrieval-draft {verb}".rstrip())
    assert ended.stderr == ""


# The wire's numbers are written twice: there, and where no protobuf is loaded.


def test_bits_of_sources_are_those_of_the_wire() -> None:
    from retrieval_draft.v1 import draft_pb2

    wire = {name.removeprefix("SOURCE_"): number for name, number in draft_pb2.Source.items()}
    tiers = {f"TIER_{name.upper()}": bit for name, bit in TIERS.items()}
    assert {**tiers, **{name.upper(): bit for name, bit in SOURCES.items()}} == wire


def test_numbers_of_enums_are_those_of_the_wire() -> None:
    from retrieval_draft.v1 import draft_pb2

    for ours, wire, prefix in (
        (TreeShape, draft_pb2.TreeShape, "TREE_SHAPE_"),
        (Status, draft_pb2.SequenceStatus, "SEQUENCE_STATUS_"),
        (Learning, draft_pb2.Learning, "LEARNING_"),
    ):
        assert {f"{prefix}{one.name}": one.value for one in ours} == dict(wire.items())


def test_durability_is_that_of_the_wire() -> None:
    from retrieval_draft.store.backend import Durability
    from retrieval_draft.v1 import store_pb2

    numbers = dict(store_pb2.Durability.items())
    for one in Durability:
        assert numbers[f"DURABILITY_{one.name}"] == one.value
