"""The overview in a real browser: renders, refreshes by itself, keeps its own rules, and says when it is stale."""

import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

from lab.namespaces import wait_until
from rules.zone import Zone
from store.records import IncidentRecord
from store.store import Store

pytestmark = pytest.mark.browser
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "state").mkdir()
    with Store.open(f"sqlite:///{tmp_path / 'state' / 'stopbank.db'}") as store:
        store.put_zone(Zone("web", (ip_network("203.0.113.0/24"),)), actor="test", now=datetime.now(UTC))
        yield store


@pytest.fixture
def served(tmp_path: Path, store: Store) -> Iterator["tuple[str, subprocess.Popen[bytes]]"]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "stopbank.toml"
    config.write_text(f'[paths]\nstate = "{tmp_path / "state"}"\n[web]\nport = {port}\n')
    command = [str(Path(sys.executable).parent / "stopbank"), "web", "--config", str(config)]
    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: answers(port), "the page is not served", 60)
            yield f"http://127.0.0.1:{port}/", process
        finally:
            process.terminate()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture
def page() -> Iterator[Page]:
    executable = shutil.which("chromium")
    assert executable, "chromium is missing: deploy/install-packages browser"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(QUIET))
        yield browser.new_page(viewport={"width": 1400, "height": 900})
        browser.close()


def incident(now: datetime) -> IncidentRecord:
    return IncidentRecord(
        None, "web", "203.0.113.7/32", "open", now, now, None, "udp_amp:dns", 12.0, 1_250_000, 4.2e9, {"why": "test"}
    )


def test_what_happens_shows_up_by_itself(
    page: Page, served: "tuple[str, subprocess.Popen[bytes]]", store: Store
) -> None:
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        complaints.append(message.text)

    page.on("console", listen)
    page.goto(served[0])
    expect(page.get_by_text("No incidents so far.")).to_be_visible()
    store.save_incident(incident(datetime.now(UTC)))
    expect(page.get_by_text("udp_amp:dns")).to_be_visible(timeout=20_000)
    expect(page.get_by_role("alert")).to_contain_text("The speaker has not reported")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground != "rgba(0, 0, 0, 0)", "the style sheet was not applied"
    assert complaints == []


def test_a_page_whose_server_is_gone_says_so(page: Page, served: "tuple[str, subprocess.Popen[bytes]]") -> None:
    page.goto(served[0])
    served[1].terminate()
    served[1].wait(20)
    expect(page.locator("body.stale")).to_be_visible(timeout=20_000)


def test_the_page_fits_a_phone(page: Page, served: "tuple[str, subprocess.Popen[bytes]]", store: Store) -> None:
    store.save_incident(incident(datetime.now(UTC)))
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(served[0])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
