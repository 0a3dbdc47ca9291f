"""The dashboard in a real browser: `make test-web`. Skips where there is no chromium."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from retrieval_draft.tenants import Tenants, with_token, write_tenants
from tests.web.traffic import drive

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: make test-web has it")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")

PROGRAM = (sys.executable, "-m", "retrieval_draft")
SECONDS_MAX = 60
WIDTHS = (360, 800, 1280)
NAMESPACE = "browser"
STEPS = 60


class Process:
    """A sidecar with its dashboard, that can be ended and started again at the same address."""

    def __init__(self, data: Path, *words: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.target = f"unix:{data}/draft.sock"
        self.url = f"http://127.0.0.1:{self.port}/"
        self._words = (
            "--data",
            str(data),
            "--redis",
            "none",
            "--web",
            f"127.0.0.1:{self.port}",
            *words,
        )
        self._running: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._running = subprocess.Popen(
            [*PROGRAM, "serve", *self._words], stdout=subprocess.PIPE, text=True
        )
        assert self._running.stdout is not None
        line = self._running.stdout.readline()
        assert line.split()[-1] == self.url.rstrip("/"), line

    def stop(self) -> None:
        if self._running is not None:
            self._running.terminate()
            self._running.communicate(timeout=SECONDS_MAX)
            self._running = None


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("web"), "--show-tokens", "demo")
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield running
        running.close()


class Watched:
    """A page, with all that it asked for and complained about."""

    def __init__(
        self, browser: "Browser", url: str, width: int = 1280, scheme: str = "light"
    ) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(SECONDS_MAX * 1000)
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console", lambda said: self.errors.append(said.text) if said.type == "error" else None
        )
        self.page.goto(url)

    def live(self) -> "Page":
        self.page.wait_for_selector("#link.live")
        return self.page


@pytest.fixture
def opened(browser: "Browser", sidecar: Process) -> Iterator[Watched]:
    watched = Watched(browser, sidecar.url)
    watched.live()
    yield watched
    watched.context.close()


def steps(page: "Page") -> int:
    """Of our namespace, as the table has it."""
    cells = page.locator("#spaces tbody tr", has_text=NAMESPACE).locator("td")
    return int(cells.nth(1).inner_text().replace(",", "")) if cells.count() else 0


def wait_for_steps(page: "Page", least: int) -> None:
    page.wait_for_function(
        """([name, least]) => [...document.querySelectorAll('#spaces tbody tr')].some((row) =>
        row.cells[0].textContent === name && Number(row.cells[1].textContent.replace(/,/g, '')) >= least)""",
        arg=[NAMESPACE, least],
    )


def test_an_empty_sidecar_says_what_to_do(opened: Watched) -> None:
    assert "Start a worker" in opened.page.inner_text("#notices")
    assert (
        opened.page.locator("#charts .none").count()
        == opened.page.locator("#charts figure").count()
    )


def test_it_updates_while_drafts_run_and_asks_nobody_else(
    opened: Watched, sidecar: Process
) -> None:
    page = opened.page
    before = steps(page)
    done = drive(sidecar.target, NAMESPACE, SECONDS_MAX, STEPS)
    assert done == STEPS
    wait_for_steps(page, before + STEPS - 2)
    assert float(page.inner_text("#mat .value")) >= 1
    page.wait_for_selector("#by-tier polyline, #by-tier circle")
    assert page.locator("#pays rect").count() > 3
    assert {urlsplit(url).netloc for url in opened.asked} == {f"127.0.0.1:{sidecar.port}"}
    assert opened.errors == [], "nothing the page does offends its content security policy"


def test_no_text_is_shown_until_the_switch_is_thrown(opened: Watched, sidecar: Process) -> None:
    page = opened.page
    drive(sidecar.target, NAMESPACE, SECONDS_MAX, STEPS)
    wait_for_steps(page, STEPS - 2)
    assert page.locator(".output").count() == 0
    page.check("#show-text")
    page.wait_for_selector(".output span[class^=c]")
    written = page.locator(".output").first.inner_text()
    assert "import" in written or "def" in written or "the" in written
    page.uncheck("#show-text")
    assert page.locator(".output").count() == 0


def test_every_chart_is_also_a_table_and_the_keyboard_reaches_it(opened: Watched) -> None:
    page = opened.page
    wait_for_steps(page, 1)
    page.wait_for_selector("#by-tier summary")
    figures = page.locator("figure, .big article")
    for i in range(figures.count()):
        figure = figures.nth(i)
        assert figure.locator("svg[role=img][aria-label]").count() == 1
        assert figure.locator("details table tbody tr").count() >= 1
    page.focus("#pays-table summary")
    page.keyboard.press("Enter")
    assert page.locator("#pays-table[open] table").is_visible()
    # It stays open, and the keyboard stays there, when new figures come.
    page.evaluate("document.querySelector('#pays-table').dataset.old = '1'")
    page.wait_for_function("() => !document.querySelector('#pays-table').dataset.old")
    assert page.locator("#pays-table[open] table").is_visible()
    assert page.evaluate("document.activeElement.closest('details')?.id") == "pays-table"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_every_width(browser: "Browser", sidecar: Process, width: int, scheme: str) -> None:
    watched = Watched(browser, sidecar.url, width, scheme)
    page = watched.live()
    wait_for_steps(page, 1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 200) == (scheme == "dark")
    watched.context.close()


def test_it_survives_a_restart_of_the_sidecar(opened: Watched, sidecar: Process) -> None:
    page = opened.page
    wait_for_steps(page, 1)
    sidecar.stop()
    page.wait_for_selector("#link.lost")
    assert f"retrieval-draft serve --web 127.0.0.1:{sidecar.port}" in page.inner_text("#notices")
    assert page.locator("#pays rect").count() > 3, "what was known is still there"
    sidecar.start()
    page.wait_for_selector("#link.live")
    page.wait_for_function(
        "() => !document.querySelector('#notices').textContent.includes('does not answer')"
    )
    drive(sidecar.target, NAMESPACE, SECONDS_MAX, 10)
    wait_for_steps(page, 8)
    assert steps(page) < 20, "it counts anew"


def test_with_tenants_it_asks_for_a_token(browser: "Browser", tmp_path: Path) -> None:
    tenants, token = with_token(Tenants(unix_sockets="acme"), "acme")
    write_tenants(tmp_path / "tenants.toml", tenants)
    process = Process(tmp_path / "data", "--tenants", str(tmp_path / "tenants.toml"))
    process.start()
    try:
        watched = Watched(browser, process.url)
        page = watched.page
        page.wait_for_selector("#sign-in:not([hidden])")
        page.fill("#token", "rdt_wrong")
        page.keyboard.press("Enter")
        page.wait_for_function(
            "() => document.querySelector('#sign-in-problem').textContent.includes('not valid')"
        )
        page.fill("#token", token)
        page.keyboard.press("Enter")
        page.wait_for_selector("#link.live")
        assert page.locator("#sign-in").is_hidden()
        assert token not in page.content()
        assert all(token not in url for url in watched.asked)
        watched.context.close()
    finally:
        process.stop()
