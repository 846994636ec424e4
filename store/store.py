"""The store as one thing: open it, use it, close it."""

from pathlib import Path
from types import TracebackType
from typing import Self

from store import schema
from store.admission import Admission
from store.announcements import Announcements
from store.audit import Audit
from store.backup import Backup
from store.database import PATIENCE_SECONDS, engine_for
from store.incidents import Incidents
from store.outbox import Outbox
from store.zones import Zones


class Store(Admission, Zones, Announcements, Incidents, Outbox, Audit, Backup):
    """Every query of the product; each call is its own short transaction, from whatever thread.

    Calls raise `store.errors.StoreUnavailable` when the database can't be used now; then nothing of it has happened.
    Open it after forking, never before.
    """

    @classmethod
    def open(cls, url: str | Path, patience_seconds: float = PATIENCE_SECONDS) -> Self:
        """Opens a database, given as URL or SQLite file, and brings its schema up to date.

        A call that has waited `patience_seconds` for another process's transaction raises `StoreUnavailable`.
        """
        engine = engine_for(f"sqlite:///{url}" if isinstance(url, Path) else url, patience_seconds)
        try:
            schema.upgrade(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
