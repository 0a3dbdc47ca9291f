"""Builds wheel and sdist into dist/, the same bytes from the same commit wherever it is done.

setuptools makes wheels so by SOURCE_DATE_EPOCH; sdists carry the time and the user of the build, and are
packed anew. Run from the repository's root: `make dist`.
"""

import gzip
import os
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

OUT = Path("dist")


def commit_seconds() -> int:
    """When the commit was made, which is when its files are said to be from."""
    command = ["git", "log", "-1", "--format=%ct"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603


def repacked(sdist: bytes, seconds: int) -> bytes:
    """The same files in the order of their names, of nobody, from that time."""
    packed = BytesIO()
    with (
        tarfile.open(fileobj=BytesIO(sdist)) as given,
        gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=seconds) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as made,
    ):
        for member in sorted(given, key=lambda one: one.name):
            is_run = member.isdir() or member.mode & 0o100
            member.mtime, member.mode = seconds, 0o755 if is_run else 0o644
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.pax_headers = {}
            made.addfile(member, given.extractfile(member) if member.isfile() else None)
    return packed.getvalue()


def main() -> None:
    """Build the sdist, pack it anew, and make the wheel of that."""
    os.umask(0o022)
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH") or commit_seconds())
    os.environ["SOURCE_DATE_EPOCH"] = str(seconds)
    command = [sys.executable, "-m", "build", "--outdir", str(OUT.absolute())]
    subprocess.run([*command, "--sdist"], check=True)  # noqa: S603
    (sdist,) = OUT.glob("*.tar.gz")
    sdist.write_bytes(repacked(sdist.read_bytes(), seconds))
    with tempfile.TemporaryDirectory() as folder, tarfile.open(sdist) as packed:
        packed.extractall(folder, filter="data")
        subprocess.run([*command, "--wheel", *map(str, Path(folder).iterdir())], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
