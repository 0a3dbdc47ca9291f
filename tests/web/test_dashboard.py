"""What the dashboard's address answers, to whom, and what it never says."""

import itertools
import logging
import re
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec
import pytest

import retrieval_draft.web
from retrieval_draft.errors import InvalidInput, PermissionDenied
from retrieval_draft.server.access import Access
from retrieval_draft.server.lifecycle import ServeOptions, Sidecar
from retrieval_draft.server.tls import TlsFiles
from retrieval_draft.step import Learning, SequenceStart
from retrieval_draft.store.records import NamespaceSpec
from retrieval_draft.tenants import Tenants, with_token, without_tenant
from retrieval_draft.tokenizer import load_tokenizer
from retrieval_draft.tree import SOURCES, TIERS
from retrieval_draft.web.app import HEADERS, PAGE
from retrieval_draft.web.history import WINDOW_POINTS, History
from tests.certificates import Authority
from tests.engine.driving import (
    NAMESPACE,
    SECONDS_MAX,
    SPEC,
    TENANT,
    VOCAB,
    recreate,
    running_engine,
    wait_for,
)
from tests.web.serving import PROMPT, TEXT, Served, dashboard, decode

PAGE_FOLDER = Path(retrieval_draft.web.__file__).parent / "page"
BYTES_MAX = 200_000


@pytest.fixture
def served() -> Iterator[Served]:
    with running_engine() as engine, dashboard(engine) as running:
        yield running


@pytest.fixture
def of_two() -> Iterator[tuple[Served, str, str]]:
    """A dashboard with two tenants, each with a namespace, and their tokens."""
    tenants, acme = with_token(Tenants(), "acme")
    tenants, bolt = with_token(tenants, "bolt")
    with running_engine(spec=None) as engine, dashboard(engine, Access(tenants)) as running:
        for name in ("acme", "bolt"):
            engine.stores.create(
                name, NamespaceSpec(f"of-{name}", VOCAB, learned_bytes_max=1 << 20)
            )
        yield running, acme, bolt


def figures(served: Served, query: str = "", **headers: str) -> dict[str, object]:
    """The first event of a stream."""
    with served.events(query, **headers) as events:
        name, data = next(events)
        assert name == "figures"
        assert isinstance(data, dict)
        return data


def test_the_page_is_light_and_asks_nobody_else() -> None:
    assert {name for name, _ in PAGE.values()} == {path.name for path in PAGE_FOLDER.iterdir()}
    assert sum(path.stat().st_size for path in PAGE_FOLDER.iterdir()) < BYTES_MAX
    for path in PAGE_FOLDER.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", text), path.name


def test_the_page_knows_our_tiers_and_sources_in_our_order() -> None:
    script = (PAGE_FOLDER / "figures.js").read_text()
    for name, ours in (("TIERS", TIERS), ("SOURCES", SOURCES)):
        found = re.search(rf"^const {name} = (\[.*\]);$", script, re.MULTILINE)
        assert found is not None
        assert msgspec.json.decode(found.group(1)) == list(ours)


def test_every_file_is_served_and_no_other(served: Served) -> None:
    for path, (name, kind) in PAGE.items():
        answer = served.get(path)
        assert answer.status == 200
        assert answer.headers["content-type"] == kind
        assert answer.body == (PAGE_FOLDER / name).read_bytes()
    assert served.get("/healthz").body == b"ok\n"
    for path in (
        "/index.html",
        "/app.py",
        "/page/",
        "/../app.py",
        "/style.css/..%2fapp.py",
        "/%2e%2e/app.py",
    ):
        answer = served.get(path)
        assert answer.status == 404, path
        assert b"import" not in answer.body


@pytest.mark.parametrize("path", ["/", "/metrics", "/nowhere"])
def test_every_answer_forbids_foreign_and_inline_content(served: Served, path: str) -> None:
    found = served.get(path).headers
    assert {name: found.get(name) for name in HEADERS} == HEADERS
    assert "unsafe" not in found["content-security-policy"]
    assert found["cache-control"] in ("no-cache", "no-store")


def test_figures_come_at_once_and_again_when_something_happened(served: Served) -> None:
    assert figures(served)["steps"] == 0
    with served.events() as events:
        assert next(events)[0] == "figures"
        assert next(events) == ("points", [])
        steps = decode(served.engine)
        served.history.take()
        while (found := next(events))[0] != "points":
            pass
        data = found[1]
        assert isinstance(data, list)
        assert len(data) == 1
        # The last step has not been told what it gained.
        assert data[0][1] == steps - 1
        assert data[0][2] > 1.5, "a text that repeats itself gains tokens"
        name, after = next(events)
    assert name == "figures"
    assert isinstance(after, dict)
    assert after["steps"] == steps - 1
    assert {row["name"] for row in after["rows"]["tiers"]} <= set(TIERS)
    assert after["rates"]["mat"] == pytest.approx((len(TEXT) - PROMPT) / (steps - 1))


def test_a_page_opened_later_has_the_history(served: Served) -> None:
    for _ in range(2):
        decode(served.engine)
        assert served.engine.flush(SECONDS_MAX)
        served.history.take()
    served.history.take()
    with served.events(f"?namespace={NAMESPACE}") as events:
        assert next(events)[0] == "figures"
        name, points = next(events)
    assert name == "points"
    assert isinstance(points, list)
    assert len(points) == 2, "where nothing happened there is no point"


def test_the_history_of_a_namespace_created_anew_counts_nothing_of_before(served: Served) -> None:
    for number in range(WINDOW_POINTS):
        decode(served.engine, f"before {number}")
        served.history.take()
    recreate(served.engine)
    # More than before the last window's first point, and fewer than at its last.
    steps = sum(decode(served.engine, f"after {number}") - 1 for number in range(2))
    served.history.take()
    assert served.history.points(TENANT, NAMESPACE)[-1].steps == steps


def test_many_namespaces_of_one_tenant_take_no_history_from_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("retrieval_draft.web.history.SERIES_MAX", 4)
    names = {"bolt": "g", "acme": "abcdef"}
    with running_engine(spec=None) as engine:
        history = History(engine)
        for tenant, namespaces in names.items():
            for name in namespaces:
                engine.stores.create(tenant, msgspec.structs.replace(SPEC, namespace=name))
                engine.stores.state(tenant, name).counters.committed(tokens=2, steps=1)
            history.take()
        kept = {
            tenant: [name for name in ("", *namespaces) if history.points(tenant, name)]
            for tenant, namespaces in names.items()
        }
    assert kept["bolt"] == ["", "g"]
    assert len(kept["acme"]) == 2
    assert kept["acme"][0] == "", "all together are the last to go"


def test_a_namespace_that_is_gone_is_said_to_be(served: Served) -> None:
    with served.events("?namespace=nowhere") as events:
        assert next(events)[0] == "gone"


def test_no_token_of_text_is_sent_unless_the_operator_and_the_page_ask() -> None:
    written = load_tokenizer("demo").decode(TEXT[PROMPT:][:4])
    for shows_text, query, expected in (
        (False, "?text=1", False),
        (True, "", False),
        (True, "?text=1", True),
    ):
        with running_engine() as engine, dashboard(engine, shows_text=shows_text) as served:
            decode(engine)
            served.history.take()
            said = []
            with served.events(query) as events:
                for name, data in events:
                    said.append((name, str(data)))
                    if len(said) == 4:
                        break
            assert any(name == "texts" for name, _ in said) == expected
            assert any(written in data for _, data in said) == expected
            assert written not in served.get("/metrics").body.decode()


def test_text_is_coloured_by_what_drafted_it_and_the_prompt_is_not_shown() -> None:
    with running_engine() as engine, dashboard(engine, shows_text=True) as served:
        decode(engine)
        decode(engine, "private", SequenceStart(PROMPT, learning=Learning.NONE))
        with served.events("?text=1") as events:
            texts = next(data for name, data in events if name == "texts")
    assert isinstance(texts, list)
    assert len(texts) == 1, "what must not be learned is not shown either"
    pieces = texts[0]["pieces"]
    whole = load_tokenizer("demo").decode(TEXT[PROMPT:])
    assert "".join(text for text, _ in pieces) == whole
    assert {source for _, source in pieces} - {""} <= set(SOURCES)
    assert any(source == "match" for _, source in pieces)


def texts(served: Served) -> list[object]:
    """What of the output is in the first events of a page that shows it."""
    with served.events("?text=1") as events:
        first = list(itertools.islice(events, 4))
    return [data for name, data in first if name == "texts"]


def test_nothing_is_shown_of_a_namespace_that_was_deleted() -> None:
    with running_engine() as engine, dashboard(engine, shows_text=True) as served:
        decode(engine)
        assert texts(served)
        recreate(engine)
        assert not texts(served)
        decode(engine)
        assert texts(served)


def test_what_another_tokenizer_wrote_is_not_shown() -> None:
    spec = msgspec.structs.replace(SPEC, tokenizer_fingerprint="another's")
    with running_engine(spec=spec) as engine, dashboard(engine, shows_text=True) as served:
        decode(engine)
        assert not texts(served)


def test_with_tenants_a_token_is_needed_and_shows_its_own_alone(
    of_two: tuple[Served, str, str],
) -> None:
    served, acme, bolt = of_two
    for path in ("/api/figures", "/metrics"):
        for headers in ({}, {"authorization": f"Bearer {acme}x"}, {"authorization": acme}):
            answer = served.get(path, **headers)
            assert answer.status == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert b"of-acme" not in answer.body
    assert served.get("/").status == 200, "the page itself says nothing"
    for token, own, other in ((acme, "of-acme", "of-bolt"), (bolt, "of-bolt", "of-acme")):
        bearer = f"Bearer {token}"
        found = figures(served, authorization=bearer)
        assert [row["name"] for row in found["namespaces"]] == [own]  # type: ignore[attr-defined]
        text = served.get("/metrics", authorization=bearer).body.decode()
        assert f'namespace="{own}"' in text
        assert other not in text
        with served.events(f"?namespace={other}", authorization=bearer) as events:
            assert next(events)[0] == "gone"


def test_a_token_that_is_revoked_shows_nothing_more(of_two: tuple[Served, str, str]) -> None:
    served, acme, _ = of_two
    with served.events(authorization=f"Bearer {acme}") as events:
        assert next(events)[0] == "figures"
        assert served.access.tenants is not None
        served.access.tenants = without_tenant(served.access.tenants, "acme")
        assert [name for name, _ in events][-1] == "refused"


def test_pages_of_one_tenant_leave_room_for_others_and_make_room_when_they_go(
    of_two: tuple[Served, str, str],
) -> None:
    served, acme, bolt = of_two
    most = served.engine.config.tenant_watchers_max
    mine, others = f"Bearer {acme}", f"Bearer {bolt}"
    with ExitStack() as stack:
        for _ in range(most):
            next(stack.enter_context(served.events(authorization=mine)))
        answer = served.get("/api/figures", authorization=mine)
        assert answer.status == 503
        assert f"the limit of a tenant is {most}" in answer.body.decode()
        assert figures(served, authorization=others)

    def has_room() -> bool:
        with suppress(AssertionError), served.events(authorization=mine):
            return True
        return False

    wait_for(has_room, "a page that was closed still counts")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost:8080", 200),
        ("[::1]:8080", 200),
        ("sidecar:8080", 200),
        ("evil.example:8080", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ],
)
def test_a_foreign_name_for_this_address_is_refused(served: Served, host: str, status: int) -> None:
    assert served.get("/metrics", host=host).status == status


def test_who_is_refused_is_logged_by_address_whatever_it_says(
    of_two: tuple[Served, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    served, _, _ = of_two
    with caplog.at_level(logging.WARNING):
        headers = {"x-forwarded-for": "somebody else"}
        assert served.get("/metrics", **headers).status == 401
    assert "the last from 127.0.0.1" in caplog.text


def test_an_open_address_is_refused_like_any_other(tmp_path: Path) -> None:
    for web, error in (("0.0.0.0:0", PermissionDenied), ("unix:/x", InvalidInput)):
        with pytest.raises(error, match=r"^(--)?web "):
            Sidecar(ServeOptions(data=tmp_path, redis="none", web=web)).start()


def test_a_sidecar_serves_it_and_ends_its_streams_when_it_stops(tmp_path: Path) -> None:
    sidecar = Sidecar(ServeOptions(data=tmp_path, redis="none", web="127.0.0.1:0"))
    sidecar.start()
    try:
        served = Served(sidecar.engine, sidecar.access, None, sidecar.targets[-1])  # type: ignore[arg-type]
        with served.events() as events:
            assert next(events)[0] == "figures"
            assert sidecar.stop()
            assert [name for name, _ in events] in ([], ["points"])
    finally:
        sidecar.stop()


def test_over_tls_it_takes_new_certificates_and_any_name(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.server().write(tmp_path, "server")
    tls = TlsFiles(certificate, key)
    sidecar = Sidecar(
        ServeOptions(data=tmp_path / "data", redis="none", web="127.0.0.1:0", tls=tls)
    )
    sidecar.start()
    try:
        url = sidecar.targets[-1]
        assert url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cadata=authority.certificate.decode())
        request = urllib.request.Request(f"{url}/metrics", headers={"host": "drafts.example"})  # noqa: S310
        with urllib.request.urlopen(request, context=trusted) as answer:  # noqa: S310
            assert b"retrieval_draft_info" in answer.read()
        port = int(url.rpartition(":")[2])
        before = ssl.get_server_certificate(("127.0.0.1", port))
        authority.server().write(tmp_path, "server")
        assert ssl.get_server_certificate(("127.0.0.1", port)) == before
        assert sidecar.reload()
        assert ssl.get_server_certificate(("127.0.0.1", port)) != before
    finally:
        sidecar.stop()


def test_totals_add_up_over_namespaces(served: Served) -> None:
    served.engine.stores.create(TENANT, NamespaceSpec("other", VOCAB, learned_bytes_max=1 << 20))
    steps = decode(served.engine)
    found = figures(served)
    assert found["steps"] == steps - 1
    assert figures(served, "?namespace=other")["steps"] == 0
    assert len(found["namespaces"]) == 2  # type: ignore[arg-type]
