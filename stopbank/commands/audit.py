"""`stopbank audit`: is the chain whole, and signed checkpoints of it, made to be kept elsewhere.

The private key never leaves the state directory; who keeps checkpoints keeps the public key with them.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rules.counted import counted
from rules.errors import Problem, Refused
from stopbank import config as configuration
from stopbank.commands.machine import AsJson, ConfigPath, loaded
from stopbank.terminal import REFUSED, fail, refuse, show

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from store.checkpoint import Checkpoint
    from store.records import AuditVerdict
    from store.store import Store

KEY_FILE = "audit.key"

app = typer.Typer(help="The audit chain.", no_args_is_help=True)


@app.command()
def checkpoint(config: ConfigPath = configuration.DEFAULT_PATH) -> None:
    """Prints one signed line that says how long the chain is and how it ends; append it to a file elsewhere."""
    from stopbank import opened
    from store.checkpoint import sign

    found = loaded(config)
    with opened.standing(found) as store:
        verdict = store.verify_audit()
    if not verdict.is_sound:
        fail("the chain is broken, so nothing is signed: `stopbank audit verify` shows where", REFUSED)
    key = _private_key(found.paths.state / KEY_FILE)
    show(None, False, sign(verdict.head, opened.now(), key).decode().strip())


@app.command("public-key")
def public_key(config: ConfigPath = configuration.DEFAULT_PATH) -> None:
    """Prints the public half of the key that signs checkpoints (PEM), made at the first use."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    state = loaded(config).paths.state
    if not state.is_dir():
        fail(f"paths.state: {state} does not exist: nothing was set up with this configuration")
    key = _private_key(state / KEY_FILE).public_key()
    show(None, False, key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode().strip())


@app.command()
def verify(
    checkpoints: Annotated[
        Path | None, typer.Option("--checkpoints", help="A file with what `audit checkpoint` printed, a line each")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--public-key", help="What `audit public-key` printed when the checkpoints were made")
    ] = None,
    config: ConfigPath = configuration.DEFAULT_PATH,
    as_json: AsJson = False,
) -> None:
    """Recomputes the chain; exit 1 when an entry was changed, removed, inserted or reordered, and where."""
    from stopbank import opened

    if checkpoints is not None and key is None:
        refuse(
            Refused("public-key", "", "is needed with --checkpoints: the key on this machine proves nothing"), as_json
        )
    try:
        kept = () if checkpoints is None or key is None else _kept(checkpoints, _public_key(key))
    except Refused as error:
        refuse(error, as_json)
    with opened.standing(loaded(config)) as store:
        newest = max(kept, key=lambda one: one.head.count, default=None)
        verdict = store.verify_audit(None if newest is None else newest.head)
        problems = [*verdict.problems, *_contradictions(store, kept, newest)]
        place = [] if verdict.broken_at is None else _around(store, verdict.broken_at)
    document = {
        "ok": not problems,
        "entries": verdict.head.count,
        "head": verdict.head.hash,
        "checkpoints": len(kept),
        "broken_at": verdict.broken_at,
        "problems": problems,
        "around": place,
    }
    show(document, as_json, _readable(verdict, problems, place, len(kept)))
    if problems:
        raise typer.Exit(REFUSED)


def _readable(verdict: "AuditVerdict", problems: list[str], place: list[dict[str, Any]], kept: int) -> str:
    if not problems:
        proven = f"; agrees with {counted(kept, 'checkpoint')}" if kept else ""
        return f"{counted(verdict.head.count, 'entry', 'entries')}, unbroken; head {verdict.head.hash}{proven}"
    rows = [f"  row {one['row']}  {one['at']}  {one['actor']}  {one['action']}  {one['subject']}" for one in place]
    return "\n".join([*problems, *(["around the first break:", *rows] if rows else [])])


def _around(store: "Store", row: int) -> list[dict[str, Any]]:
    """The rows next to a place in the chain, as they stand there now, oldest first."""
    rows = [one for one in store.audit_rows(limit=3, before=row + 2) if row - 1 <= one.sequence <= row + 1]
    return [
        {
            "row": one.sequence,
            "at": one.at.isoformat(),
            "actor": one.actor,
            "action": one.action,
            "subject": one.subject,
        }
        for one in reversed(rows)
    ]


def _contradictions(store: "Store", kept: "tuple[Checkpoint, ...]", newest: "Checkpoint | None") -> list[str]:
    """Checkpoints, besides the newest, whose row is gone or another one."""
    found = []
    for one in kept:
        rows = store.audit_rows(limit=1, before=one.head.count + 1) if one.head.count else []
        if one != newest and one.head.count and (not rows or rows[0].hash != one.head.hash):
            found.append(f"row {one.head.count} is not the one that the checkpoint of {one.at.isoformat()} names")
    return found


def _kept(path: Path, key: "Ed25519PublicKey") -> "tuple[Checkpoint, ...]":
    """The checkpoints of a file; raises `Refused` with every line that is none of this key's."""
    from store.checkpoint import read

    problems: list[Problem] = []
    found = []
    for number, line in enumerate(_bytes("checkpoints", path).splitlines(), 1):
        try:
            found.append(read(line, key))
        except Refused as error:
            problems += [Problem(f"checkpoints[{number}]", one.value, one.reason) for one in error.problems]
    if problems:
        raise Refused.all(problems)
    if not found:
        raise Refused("checkpoints", path, "holds none")
    return tuple(found)


def _public_key(path: Path) -> "Ed25519PublicKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_bytes("public-key", path))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise Refused("public-key", path, "is no Ed25519 public key in PEM")
    return key


def _bytes(field: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(field, path, f"can't be read: {error.strerror}") from None


def _private_key(path: Path) -> "Ed25519PrivateKey":
    """The key in the file, made when there is none; what can't be used ends the command."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        if not path.exists():
            _make_key(path)
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    except (ValueError, TypeError, UnsupportedAlgorithm):
        fail(f"{path}: is no Ed25519 key; move it away, and a new one is made")
    if not isinstance(key, Ed25519PrivateKey):
        fail(f"{path}: is no Ed25519 key; move it away, and a new one is made")
    return key


def _make_key(path: Path) -> None:
    """A new key, complete or not there at all; two makers agree on the first one's."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return
    finally:
        draft.unlink()
