"""Tenants as an operator and as their users see them: the file, the token, and every verb that takes it."""

import importlib
import io
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from retrieval_draft.cli import VERBS, main
from retrieval_draft.tenants import read_tenants
from tests.cli.conftest import PROGRAM, SECONDS_MAX
from tests.engine.driving import wait_for
from tests.server.sidecars import Process, short_folder

CODE = "def read(self, size=-1):\n    return self._buffer.read(size)\n"
DEMO = ("--namespace", "mine", "--tokenizer", "demo")


@dataclass
class Done:
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


def run(*words: str, token: str = "", stdin: str = "") -> Done:
    """A command as `main` runs it, in this process: a new one would take seconds to import."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr("sys.argv", ["retrieval-draft", *words])
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        if token:
            patch.setenv("RETRIEVAL_DRAFT_TOKEN", token)
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def started(*words: str) -> Done:
    """A command that takes the process for itself, to its end."""
    done = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=SECONDS_MAX)
    return Done(done.returncode, done.stdout, done.stderr)


@dataclass
class Served:
    """A sidecar process with two tenants, and where their tokens are."""

    process: Process
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "tenants.toml"

    def token(self, name: str) -> tuple[str, str]:
        return ("--token-file", str(self.folder / f"{name}.token"))

    def run(self, *words: str, stdin: str = "") -> Done:
        return run(*words, "--data", str(self.folder / "data"), stdin=stdin)

    def add(self, name: str) -> str:
        """A new token, written where `token` finds it."""
        made = run("tenant", "add", name, "--file", str(self.file))
        assert made.returncode == 0, made.stderr
        (self.folder / f"{name}.token").write_text(made.stdout)
        return made.stdout.strip()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with short_folder() as folder:
        one = Served.__new__(Served)
        one.folder = folder
        one.add("acme")
        one.add("bolt")
        one.file.write_text(one.file.read_text().replace('"local"', '""'))
        words = ("--redis", "none", "--tenants", str(one.file))
        one.process = Process(folder / "data", *words).ready()
        try:
            yield one
            assert one.process.terminate() == 0
        finally:
            one.process.discard()


def test_a_token_is_printed_once_alone_and_its_hash_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tenants.toml"
    words = ("--file", str(path))
    first = run("tenant", "add", "acme", *words)
    token = first.stdout.strip()
    assert first.stdout == f"{token}\n"
    assert read_tenants(path).of_token(token) == "acme"
    assert token not in first.stderr + path.read_text()
    second = json.loads(run("tenant", "add", "acme", *words, "--json").stdout)
    assert run("tenant", "add", "bolt", *words, "--certificate", "spiffe://p/b").stdout == ""
    listed = run("tenant", "list", *words)
    assert "spiffe://p/b" in listed.stdout
    assert "tenant local" in listed.stdout
    found = json.loads(run("tenant", "list", *words, "--json").stdout)
    assert [one["tenant"] for one in found["tenants"]] == ["acme", "bolt"]
    assert second["token_id"] in found["tenants"][0]["tokens"]
    assert run("tenant", "remove", "acme", *words, "--token", second["token_id"]).returncode == 0
    assert read_tenants(path).of_token(second["token"]) is None
    assert read_tenants(path).of_token(token) == "acme"
    assert run("tenant", "remove", "acme", *words).returncode == 0
    assert read_tenants(path).by_name.keys() == {"bolt"}


def test_what_cannot_be_said_of_tenants_is_one_line(tmp_path: Path) -> None:
    words = ("--file", str(tmp_path / "tenants.toml"))
    for command, code, said in (
        (("tenant", "add", "Big Corp", *words), 2, "tenant is 'Big Corp'"),
        (("tenant", "list", *words), 2, "No such file"),
        (("tenant", "remove", "x", *words), 2, "No such file"),
        (("tenant", "add", "x"), 2, "--file"),
        (("serve", "--tls-cert", __file__, "--data", str(tmp_path)), 2, "given together"),
        (("serve", "--tls-ca", __file__, "--data", str(tmp_path)), 2, "needs --tls-cert"),
        (("stats", "--token-file", str(tmp_path / "none")), 2, "--token-file"),
        (("stats", "--tls-cert", __file__), 2, "--tls-key"),
    ):
        shown = run(*command)
        assert (shown.returncode, shown.stdout) == (code, ""), shown.stderr
        assert said in shown.stderr
        assert "Traceback" not in shown.stderr


def test_namespaces_are_created_listed_shown_and_deleted_by_their_tenant(served: Served) -> None:
    token = served.token("acme")
    made = served.run(
        "namespace", "create", "full", "--vocab-size", "90", "--model", "llama", "--adapter", "a",
        "--revision", "r2", "--learn-prompts", "--end-token", "1", "--end-token", "2",
        "--learned-bytes-max", "1048576", "--json", *token,
    )  # fmt: skip
    row = json.loads(made.stdout)
    assert row == {
        "namespace": "full", "vocab_size": 90, "model": "llama", "tokenizer_fingerprint": "",
        "adapter": "a", "revision": "r2", "learn_prompts": True, "end_tokens": [1, 2],
        "learned_bytes_max": 1048576,
    }  # fmt: skip
    assert served.run("namespace", "create", "demo", "--tokenizer", "demo", *token).returncode == 0
    differs = served.run("namespace", "create", "demo", "--vocab-size", "9", *token)
    assert (differs.returncode, "differs" in differs.stderr) == (1, True)
    listed = json.loads(served.run("namespace", "list", "--json", *token).stdout)
    assert [one["namespace"] for one in listed] == ["demo", "full"]
    assert len(listed[0]["tokenizer_fingerprint"]) == 64
    assert "a/r2" in served.run("namespace", "list", *token).stdout
    shown = json.loads(served.run("namespace", "show", "full", "--json", *token).stdout)
    assert {**row, "learned_tokens": 0, "corpora": {}} == {
        key: shown[key] for key in (*row, "learned_tokens", "corpora")
    }
    assert "learned_tokens" in served.run("namespace", "show", "full", *token).stdout
    other = served.token("bolt")
    assert json.loads(served.run("namespace", "list", "--json", *other).stdout) == []
    assert served.run("namespace", "show", "full", *other).returncode == 1
    assert served.run("namespace", "delete", "full", "--yes", *other).returncode == 1
    unsure = served.run("namespace", "delete", "full", *token)
    assert (unsure.returncode, "--yes" in unsure.stderr) == (2, True)
    assert served.run("namespace", "delete", "full", "--yes", *token).returncode == 0
    assert served.run("namespace", "show", "full", *token).returncode == 1
    for wrong in (("--vocab-size", "0"), ("--tokenizer", "demo", "--vocab-size", "5"), ()):
        assert served.run("namespace", "create", "x", *wrong, *token).returncode == 2


def test_tokens_of_another_tokenizer_are_refused_by_warm_and_draft(
    served: Served, tmp_path: Path
) -> None:
    """Of one size, so that only the fingerprint can tell."""
    token = served.token("acme")
    other = tmp_path / "tokenizer.json"
    words = {f"w{i}": i for i in range(4096)}
    Tokenizer(WordLevel(words, unk_token="w0")).save(str(other))  # noqa: S106 - a word
    assert served.run("namespace", "create", "typed", "--tokenizer", "demo", *token).returncode == 0
    named = ("--namespace", "typed", "--tokenizer", str(other), *token)
    for shown in (
        served.run("warm", "-", *named, stdin="w1 w2"),
        served.run("draft", "w1", *named),
        served.run("namespace", "create", "typed", "--tokenizer", str(other), *token),
    ):
        assert (shown.returncode, shown.stdout) == (1, ""), shown.stderr
        assert "another tokenizer" in shown.stderr or "exists and differs" in shown.stderr
    stats = json.loads(served.run("namespace", "show", "typed", "--json", *token).stdout)
    assert stats["corpora"] == {}


def test_every_verb_takes_the_token_and_says_what_is_missing(served: Served) -> None:
    token = served.token("acme")
    warmed = served.run("warm", *DEMO, "-", *token, "--json", stdin=CODE * 3)
    assert json.loads(warmed.stdout)["documents"] == 1
    drawn = served.run("draft", "def read(self,", *DEMO, *token, "--json")
    assert json.loads(drawn.stdout)["nodes"]
    assert "mine" in served.run("stats", *token).stdout
    findings = json.loads(served.run("doctor", "--json", *token).stdout)
    assert {one["check"]: one["state"] for one in findings}["sidecar"] == "ok"
    by_environment = run(
        "stats", "--data", str(served.folder / "data"), token=(served.token("acme")[1])
    )
    assert "this token is not valid" in by_environment.stderr, "a path is no token"
    secret = Path(token[1]).read_text().strip()
    assert "mine" in run("stats", "--data", str(served.folder / "data"), token=secret).stdout
    for words in (("stats",), ("warm", *DEMO, "-"), ("draft", "x", *DEMO), ("namespace", "list")):
        shown = served.run(*words)
        assert (shown.returncode, shown.stdout) == (4, ""), shown.stderr
        assert "a token is needed: --token-file or RETRIEVAL_DRAFT_TOKEN" in shown.stderr
    refused = served.run("doctor", "--json")
    assert refused.returncode == 1
    assert "a token is needed" in refused.stdout


def test_a_namespace_is_carried_with_the_token(served: Served, tmp_path: Path) -> None:
    token, file = served.token("acme"), str(tmp_path / "carried")
    made = served.run("namespace", "create", "carried", "--vocab-size", "9", *token)
    assert made.returncode == 0
    saved = served.run("snapshot", "export", file, "--namespace", "carried", *token)
    assert saved.returncode == 0, saved.stderr
    back = served.run("snapshot", "import", file, "--namespace", "carried-back", *token)
    assert back.returncode == 0, back.stderr
    assert "carried-back" in served.run("namespace", "list", *token).stdout


def test_sighup_reads_the_file_afresh_and_a_bad_one_changes_nothing(served: Served) -> None:
    def works(name: str) -> bool:
        return served.run("stats", *served.token(name)).returncode == 0

    pid = served.process._process.pid
    served.add("late")
    assert not works("late")
    os.kill(pid, signal.SIGHUP)
    wait_for(lambda: f"read {served.file}: 3 tenants" in served.process.log)
    assert works("late")
    good = served.file.read_text()
    served.file.write_text("tenants = [")
    os.kill(pid, signal.SIGHUP)
    wait_for(lambda: "kept the tenants of before" in served.process.log)
    assert works("late")
    served.file.write_text(good)
    assert run("tenant", "remove", "late", "--file", str(served.file)).returncode == 0
    os.kill(pid, signal.SIGHUP)
    wait_for(lambda: f"read {served.file}: 2 tenants" in served.process.log)
    assert not works("late")
    assert works("acme")


def test_no_secret_is_in_the_log(served: Served) -> None:
    """After all that the tests above have done; the operator's log names no token and no text."""
    log = served.process.log
    assert "refused" in log
    for path in served.folder.glob("*.token"):
        assert path.read_text().strip() not in log
    for word in ("def read", "mine", "acme", "Traceback"):
        assert word not in log


def test_serve_without_its_tenants_does_not_start(tmp_path: Path) -> None:
    words = ("--redis", "none", "--data", str(tmp_path / "d"))
    refused = started("serve", *words, "--tenants", str(tmp_path / "none"))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "No such file" in refused.stderr
    assert not (tmp_path / "d").exists()


def test_an_open_address_is_said_in_red_where_it_is_not_secured(tmp_path: Path) -> None:
    """At an address that no machine has, so that the test lets nobody in."""
    words = ("serve", "--redis", "none", "--listen", "192.0.2.1:0", "--data", str(tmp_path))
    shown = started(*words, "--insecure")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "INSECURE: whoever can reach 192.0.2.1:0 can read and teach" in shown.stderr
    assert "cannot listen on 192.0.2.1:0" in shown.stderr


def commands(
    command: click.Command, *words: str
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            yield from commands(one, *words, name)
    else:
        yield words, command


def all_commands() -> dict[tuple[str, ...], click.Command]:
    found: dict[tuple[str, ...], click.Command] = {}
    for verb in VERBS:
        module = importlib.import_module(f"retrieval_draft.cli.{verb}")
        found.update(commands(getattr(module, verb), verb))
    return found


def test_whatever_takes_a_sidecar_takes_its_credentials() -> None:
    checked = 0
    for words, command in all_commands().items():
        options = {text for one in command.params for text in one.opts}
        if "--sidecar" in options:
            checked += 1
            missing = {"--token-file", "--tls-ca", "--tls-cert", "--tls-key"} - options
            assert not missing, words
    assert checked >= 8


def test_commands_reach_sidecars_through_the_one_function_that_knows_the_credentials() -> None:
    import retrieval_draft.cli

    for path in Path(retrieval_draft.cli.__file__).parent.glob("*.py"):
        if path.name != "options.py":
            assert "GrpcClient(" not in path.read_text(), f"{path.name}: use options.client_of"
