"""The Flask application: read-only pages, the same as JSON, metrics, health."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, current_app, jsonify, render_template
from werkzeug.exceptions import HTTPException

from rules.counted import noun
from rules.incident import Phase
from rules.messages import KillMode
from store.errors import StoreUnavailable
from store.records import (
    AnnouncementRecord,
    IncidentRecord,
    Intent,
    RuleFilter,
    RuleRecord,
    SensorRecord,
    UnreadableRecord,
)
from store.store import Store
from webui import present, programs, troubles
from webui.settings import Settings

_HERE = Path(__file__).resolve().parent
_SHIPPED, _CHECKOUT = _HERE / "templates", _HERE.parent / "templates" / "web"

SHOWN, SHOWN_ENDED = 200, 50
"""Incidents and living rules on the overview; ended rules behind them."""
EXAMINED = 2_000
"""Open incidents that are looked through for trouble."""
_POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'"

pages = Blueprint("pages", __name__)


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def create_app(settings: Settings, store: Store, clock: Callable[[], datetime] = utc_now) -> Flask:
    """An application over an open store; opens and closes nothing itself."""
    folder = _SHIPPED if _SHIPPED.is_dir() else _CHECKOUT
    app = Flask(__name__, template_folder=str(folder), static_folder=str(folder / "static"))
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters |= {"noun": noun, "with_code": present.with_code}
    app.extensions["stopbank"] = (settings, store, clock)
    app.register_blueprint(pages)
    app.register_error_handler(HTTPException, _http_error)
    app.after_request(_guarded)
    return app


def overview() -> present.Page:
    """Everything the page shows, as of now; a database that doesn't answer is one of the problems shown."""
    settings, store, clock = current_app.extensions["stopbank"]
    return composed(settings, store, clock())


def composed(
    settings: Settings,
    store: Store | None,
    now: datetime,
    problems: tuple[str, ...] = (),
    apart: str | None = None,
    told: Mapping[str, Any] | None = None,
) -> present.Page:
    """The overview from the state directory and the store; without one, what is known without a database.

    `problems` come first; `apart` names a sensor whose own troubles are told elsewhere; `told` is what the speaker has
    just answered, which is newer than its file.
    """
    state = settings.state
    status, kept = told or read_status(state), read_dated(state / "run.json")
    at, position = present.moment(now), mode(state)
    is_silent = troubles.is_silent(status, now)
    neighbours = present.neighbour_views(status, is_silent=is_silent)
    found = [*problems, *troubles.of_disk(state, _free_bytes(state))]
    found += [*troubles.of_speaker(status, now), *troubles.of_kill_switch(position)]
    found += programs.troubles(kept, now)
    held = _Held()
    if store is not None:
        try:
            held = _held(store)
            found += troubles.of_empty_database(store.audit_head().count, status)
        except StoreUnavailable as error:
            found.append(f"The database does not answer: {error}. Rules on routers stay until their deadlines.")
    found += troubles.of_rows(held.unreadable)
    if not is_silent:
        found += troubles.of_rules(held.alive, held.announcements, now, has_neighbours=bool(neighbours))
    found += troubles.of_incidents(held.incidents, now, settings.alone)
    found += troubles.of_sensors(held.sensors, now, apart)
    return present.Page(
        at=at,
        is_silent=is_silent,
        mode=position,
        rules_wanted=sum(one.intent is Intent.WANTED for one in held.alive),
        rules_hidden=max(0, len(held.alive) - SHOWN),
        problems=tuple(found),
        lately=tuple(programs.lately(kept, now)),
        incidents_open=held.incidents_open,
        incidents_hidden=held.incidents_open - sum(one.closed is None for one in held.incidents[:SHOWN]),
        incidents=present.incident_views(held.incidents[:SHOWN]),
        rules=present.rule_views((*held.alive[:SHOWN], *held.ended), held.announcements, neighbours, now),
        neighbours=neighbours,
        sensors=present.sensor_views(held.sensors, now),
        programs=programs.program_views(kept, now),
    )


@dataclass(frozen=True, slots=True)
class _Held:
    """What the database says."""

    alive: tuple[RuleRecord, ...] = ()
    """What waits for a person first, then what is new: that is what people look for."""
    ended: tuple[RuleRecord, ...] = ()
    unreadable: tuple[UnreadableRecord, ...] = ()
    announcements: tuple[AnnouncementRecord, ...] = ()
    incidents: tuple[IncidentRecord, ...] = ()
    """However many have closed since, those still open are among them."""
    incidents_open: int = 0
    sensors: tuple[SensorRecord, ...] = ()


def _held(store: Store) -> _Held:
    return _Held(
        alive=(*store.proposed(), *reversed(store.wanted())),
        ended=store.rules(RuleFilter(intents=frozenset({Intent.ENDED})), limit=SHOWN_ENDED),
        unreadable=store.unreadable(),
        announcements=store.announcements(),
        incidents=_incidents(store),
        incidents_open=store.count_open_incidents(),
        sensors=store.sensors(),
    )


def _incidents(store: Store) -> tuple[IncidentRecord, ...]:
    still = [one for phase in (Phase.OPEN, Phase.QUIET) for one in store.incidents(phase.value, limit=EXAMINED)]
    closed = (one for one in store.incidents(limit=SHOWN) if one.closed is not None)
    return (*still, *closed)


def read_status(state: Path) -> dict[str, Any] | None:
    """The speaker's status document; None when there is none that can be read."""
    return read_dated(state / "status.json")


def read_dated(path: Path) -> dict[str, Any] | None:
    """A JSON object that says when it was written; None when there is none that can be read."""
    try:
        document = json.loads(path.read_text())
        is_dated = datetime.fromisoformat(document["at"]).tzinfo is not None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return document if is_dated else None


def _free_bytes(state: Path) -> int | None:
    """Room on the disk of the state directory; None where that can't be asked."""
    try:
        found = os.statvfs(state)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def mode(state: Path) -> str:
    """The kill switch's position; one that can't be read counts as frozen."""
    flag = state / "kill.json"
    try:
        # A link is what a full disk still takes.
        told = str(flag.readlink()).partition(" ")[0] if flag.is_symlink() else json.loads(flag.read_text())["mode"]
        return KillMode(told).value
    except FileNotFoundError:
        return "normal"
    except (OSError, ValueError, KeyError, TypeError):
        return "freeze"


@pages.get("/")
def index() -> str:
    """The overview."""
    return render_template("overview.html", page=overview())


@pages.get("/fragment")
def fragment() -> str:
    """Its live part alone."""
    return render_template("fragment.html", page=overview())


@pages.get("/api/v1/status")
def status() -> Response:
    """The same as JSON."""
    return jsonify(overview().as_json())


@pages.get("/metrics")
def metrics() -> Response:
    """Prometheus text of the processes that listen on no network, from the files they keep in the state directory."""
    settings, _, _ = current_app.extensions["stopbank"]
    texts = [_metrics_of(path) for path in sorted(Path(settings.state).glob("*.prom"))]
    return Response("".join(texts), mimetype="text/plain; version=0.0.4")


def _metrics_of(path: Path) -> str:
    """One file that can't be read must not take the others along."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        return f"# {path.name} can't be read: {type(error).__name__}\n"


@pages.get("/healthz")
def health() -> tuple[Response, int]:
    """200 while nothing is wrong, else 503 with what is; what went wrong lately and is well again is told with both."""
    page = overview()
    return jsonify(ok=not page.problems, problems=page.problems, lately=page.lately), 503 if page.problems else 200


def _http_error(error: HTTPException) -> tuple[Response, int]:
    return jsonify(error=error.name, detail=error.description), error.code or 500


def _guarded(response: Response) -> Response:
    """Nothing foreign may run in the page or frame it."""
    response.headers["Content-Security-Policy"] = _POLICY + "; frame-ancestors 'none'"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers.setdefault("Cache-Control", "no-store")
    return response
