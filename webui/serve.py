"""Serves the pages with gunicorn, a few threads in one worker: there is one database to wait for, not many."""

from typing import Any

from gunicorn.app.base import BaseApplication

from store.store import Store
from webui.app import create_app
from webui.settings import Settings


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn without its command line and configuration files."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        host = f"[{self._settings.listen}]" if ":" in self._settings.listen else self._settings.listen
        for key, value in {
            "bind": f"{host}:{self._settings.port}",
            "workers": 1,
            "threads": 4,
            "loglevel": "warning",
            "proc_name": "stopbank web",
            "control_socket_disable": True,
        }.items():
            if key in self.cfg.settings:
                self.cfg.set(key, value)

    def load(self) -> Any:
        return create_app(self._settings, Store.open(self._settings.database_url))


def run(settings: Settings) -> None:
    """Serves until SIGTERM."""
    _Server(settings).run()
