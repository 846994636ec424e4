"""Signed checkpoints of the audit chain: a head with a signature (Ed25519, RFC 8032), made to leave the machine.

Who keeps them can prove later that the chain was rewritten or cut, even by somebody who holds the whole database.
"""

import json
from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from rules.errors import Refused
from store import canonical
from store.records import AuditHead

_PURPOSE = "stopbank audit checkpoint 1"
"""Part of what is signed, so that a signature made for anything else never passes for one."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the chain's head was, and when that was said."""

    head: AuditHead
    at: datetime


def sign(head: AuditHead, now: datetime, key: Ed25519PrivateKey) -> bytes:
    """One line of JSON with its signature."""
    body: dict[str, object] = {
        "purpose": _PURPOSE,
        "count": head.count,
        "hash": head.hash,
        "at": now.astimezone(UTC).isoformat(),
    }
    signature = key.sign(canonical.dumps(body).encode())
    return canonical.dumps({**body, "signature": b64encode(signature).decode()}).encode() + b"\n"


def read(signed: bytes, key: Ed25519PublicKey) -> Checkpoint:
    """The checkpoint, its signature verified; `Refused` for anything else."""
    try:
        body = json.loads(signed)
        signature = b64decode(body.pop("signature"), validate=True)
        key.verify(signature, canonical.dumps(body).encode())
        if body["purpose"] != _PURPOSE:
            raise Refused("checkpoint", body["purpose"], f"was signed for something else than {_PURPOSE!r}")
        return Checkpoint(AuditHead(int(body["count"]), str(body["hash"])), datetime.fromisoformat(body["at"]))
    except InvalidSignature:
        raise Refused("checkpoint", _shown(signed), "the signature is not of this key over this text") from None
    except (ValueError, TypeError, KeyError, AttributeError, BadBase64, RecursionError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused("checkpoint", _shown(signed), f"is no checkpoint: {error}") from None


def _shown(signed: bytes) -> str:
    return signed[:80].decode(errors="replace")
