"""Write the generated gRPC code into retrieval_draft/v1, or with --check fail where it is stale.

Needs grpcio-tools==1.71.2, the oldest whose output runs on protobuf 5.29 to 7: engines pin old ones.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("retrieval_draft/v1")


def generate(out: Path) -> None:
    """Compile every .proto of the package into `out`."""
    sources = sorted((ROOT / "proto" / PACKAGE).glob("*.proto"))
    flags = [f"--{kind}={out}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", *flags]
    subprocess.run([*command, *map(str, sources)], check=True)  # noqa: S603 - our own files


def stale() -> list[str]:
    """Names of generated files that differ from what the .proto files give now."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = {p.name: p.read_bytes() for p in (Path(folder) / PACKAGE).iterdir()}
    kept = {p.name: p.read_bytes() for p in (ROOT / PACKAGE).glob("*_pb2*")}
    return sorted(name for name in fresh.keys() | kept.keys() if fresh.get(name) != kept.get(name))


if __name__ == "__main__":
    if "--check" in sys.argv:
        if names := stale():
            sys.exit(f"stale generated code: {', '.join(names)}; run python proto/generate.py")
    else:
        (ROOT / PACKAGE).mkdir(parents=True, exist_ok=True)
        generate(ROOT)
