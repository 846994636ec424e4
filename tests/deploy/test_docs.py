"""What the documentation tells people to type, exists; what it tells them to copy, works."""

import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import parse_command, resolve, unknown_options

from rules.zone import Metric
from stopbank import config as configuration
from worker.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *(one for one in [ROOT / "README.md"] if one.exists())]
OPERATING = ROOT / "docs" / "operating.md"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`(stopbank [^`]+)`")

pytestmark = pytest.mark.skipif(not OPERATING.exists(), reason="docs are only in a checkout")


def fences(page: Path, language: str) -> list[str]:
    """The fenced blocks of that language."""
    return [text for kind, text in _FENCE.findall(page.read_text()) if kind == language]


def typed(page: Path) -> list[str]:
    """Lines of code blocks that are commands of ours, without comments."""
    text = page.read_text()
    blocks = [line for kind, block in _FENCE.findall(text) if kind in ("", "sh") for line in block.splitlines()]
    indented = [line for line in _FENCE.sub("", text).splitlines() if line.startswith("    ")]
    return [line.strip() for line in (*blocks, *indented) if line.strip().startswith("stopbank ")]


COMMANDS = [(page.name, line) for page in PAGES for line in typed(page)]
SPANS = sorted({(page.name, span) for page in PAGES for span in _SPAN.findall(page.read_text().replace("\n", " "))})


def test_the_documentation_has_commands_to_check() -> None:
    assert len(COMMANDS) > 20 and len(SPANS) > 20


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_to_type_is_understood(page: str, line: str) -> None:
    parse_command(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize(("page", "span"), SPANS)
def test_a_command_in_the_text_exists_with_its_options(page: str, span: str) -> None:
    # Tables name several at once: `stopbank rules add|list`, `stopbank stop [--withdraw]`, `stopbank zone …`.
    words = [word.strip("[],") for word in span.replace("\\|", "|").split()[1:] if word.strip("[],…")]
    for position, word in enumerate(words):
        if "|" in word:
            for one in word.split("|"):
                resolve([*words[:position], one])
            return
    assert unknown_options(words) == []


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert broken == []


def test_the_receiver_in_the_documentation_takes_what_the_worker_signs_and_nothing_else() -> None:
    (code,) = fences(OPERATING, "python")
    names: dict[str, Any] = {}
    exec(code, names)
    secret, body, now = "correct horse battery", b'{"kind":"rule.wanted"}', int(time.time())
    headers = {TIMESTAMP_HEADER: str(now), SIGNATURE_HEADER: sign(secret, now, body)}
    assert names["is_genuine"](secret, headers, body)
    assert not names["is_genuine"](secret, headers, body + b" ")
    assert not names["is_genuine"]("another secret of ours", headers, body)
    old = now - 301
    stale = {TIMESTAMP_HEADER: str(old), SIGNATURE_HEADER: sign(secret, old, body)}
    assert not names["is_genuine"](secret, stale, body)


def test_configuration_in_the_documentation_is_good() -> None:
    (text,) = fences(OPERATING, "toml")
    assert configuration.parse(text, "operating.md", {}).enforce.speakers


def test_the_documentation_names_every_metric_of_a_limit() -> None:
    text = OPERATING.read_text()
    listed = text[text.index("Metrics: `") + 10 :].partition("`")[0].split()
    assert listed == [metric.value for metric in Metric]


@pytest.mark.peer
@pytest.mark.parametrize(
    ("language", "command"),
    [
        ("bird", ("bird", "-p", "-c")),
        ("frr", ("/usr/bin/vtysh", "--dryrun", "--inputfile")),
        ("gobgp", ("gobgpd", "--dry-run", "-f")),
    ],
)
def test_router_configuration_in_the_documentation_is_taken(
    tmp_path: Path, language: str, command: tuple[str, ...]
) -> None:
    (text,) = fences(OPERATING, language)
    path = tmp_path / f"{language}.conf"
    path.write_text(text)
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
