"""The client of docs/clients.md, as it stands there, against a real sidecar."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from retrieval_draft.store.records import NamespaceSpec
from tests.engine.driving import wait_for
from tests.server.sidecars import connected, running_sidecar, short_folder

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"<!-- client\.py -->\n```python\n(.+?)```", re.DOTALL)
STEPS_MAX = 250
"""Of 300 tokens. A busy machine makes some drafts late; the page shows what it is without."""


def code() -> str:
    found = CODE.search((ROOT / "docs" / "clients.md").read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


def test_the_page_keeps_its_word_on_length_and_imports() -> None:
    lines = [line for line in code().splitlines() if line.strip()]
    assert len(lines) <= 40
    imported = {line.split()[1] for line in lines if re.match(r"(import|from) ", line)}
    assert imported <= {"sys", "uuid", "array", "grpc", "retrieval_draft.v1"}


def test_the_pages_client_drafts_and_teaches() -> None:
    """It sees grpcio, protobuf and the generated file, and nothing else of this project."""
    with short_folder() as folder, running_sidecar() as sidecar:
        target = sidecar.targets[0]
        (folder / "retrieval_draft" / "v1").mkdir(parents=True)
        shutil.copy(ROOT / "retrieval_draft/v1/draft_pb2.py", folder / "retrieval_draft" / "v1")
        (folder / "client.py").write_text(code())

        def run() -> int:
            ended = subprocess.run(
                [sys.executable, "client.py", target, "repeats"],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert ended.returncode == 0, ended.stderr
            said = re.fullmatch(r"300 tokens in (\d+) steps\n", ended.stdout)
            assert said is not None, ended.stdout
            return int(said[1])

        with connected(target, NamespaceSpec("repeats", vocab_size=32_000)) as client:
            first = run()
            assert first < STEPS_MAX
            wait_for(lambda: client.stats("repeats").namespaces[0].learned_tokens == 300)
            assert run() < first
            figures = client.stats("repeats").namespaces[0]
            assert figures.tokens == 600
            assert 0 < figures.accepted <= figures.drafted
