"""How the store fails: unavailable (the world's fault), or a schema that this version does not know.

Bad input is `rules.errors.Refused`, a rule that must not go out `rules.findings.Objected`. Exceptions of the database
are caught here by their exact types and nowhere else.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc


class StoreUnavailable(Exception):
    """The database cannot be used now: locked, full, unreadable or away. What was being done has not happened."""


class SchemaUnknown(Exception):
    """The database was written by another, probably newer version, or is not ours at all."""


_UNAVAILABLE = (exc.OperationalError, exc.InternalError, exc.InterfaceError, exc.TimeoutError)


@contextmanager
def translated() -> Iterator[None]:
    """Turns failures of the database into `StoreUnavailable`; bugs (constraints, programming errors) pass through."""
    try:
        yield
    except _UNAVAILABLE as error:
        raise StoreUnavailable(_first_line(error)) from error
    except exc.DatabaseError as error:
        # SQLite reports a corrupt file with the base class itself; its subclasses are bugs of ours.
        if type(error) is not exc.DatabaseError:
            raise
        raise StoreUnavailable(_first_line(error)) from error


def _first_line(error: exc.SQLAlchemyError) -> str:
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    return str(cause).partition("\n")[0]
