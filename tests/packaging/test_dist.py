"""An sdist is the same bytes whoever packs the same files, wherever and whenever."""

import importlib.util
import io
import tarfile
from pathlib import Path
from types import ModuleType

FILES = {"p-1/a.py": b"x = 1\n", "p-1/run": b"#!/bin/sh\n", "p-1/PKG-INFO": b"Name: p\n"}


def dist() -> ModuleType:
    """docker/dist.py, which is a script of the repository and no part of the package."""
    path = Path(__file__).parents[2] / "docker" / "dist.py"
    spec = importlib.util.spec_from_file_location("dist", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def packed(names: list[str], seconds: int, user: str, umask: int) -> bytes:
    """The files as somebody's build would pack them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uname, member.uid = len(FILES[name]), seconds, user, 7
            member.mode = (0o777 if name == "p-1/run" else 0o666) & ~umask
            tar.addfile(member, io.BytesIO(FILES[name]))
    return out.getvalue()


def test_order_time_and_user_of_the_build_leave_no_trace() -> None:
    repacked = dist().repacked
    one = packed(sorted(FILES), 1_700_000_000, "ann", 0o022)
    other = packed(sorted(FILES, reverse=True), 1_800_000_000, "bob", 0o077)
    assert one != other
    made = repacked(one, 1_600_000_000)
    assert made == repacked(other, 1_600_000_000)
    assert made != repacked(one, 1_600_000_001)
    with tarfile.open(fileobj=io.BytesIO(made)) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            assert file.read() == FILES[member.name]
            assert member.mode == (0o755 if member.name == "p-1/run" else 0o644)
            assert (member.mtime, member.uname, member.uid) == (1_600_000_000, "", 0)
