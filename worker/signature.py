"""The webhook's signature: HMAC-SHA256 over the time and the body, for the sender and for receivers. Pure."""

import hmac
from hashlib import sha256

TIMESTAMP_HEADER = "X-Stopbank-Timestamp"
"""Seconds since 1970, decimal."""
SIGNATURE_HEADER = "X-Stopbank-Signature"
"""`sha256=` and 64 hex digits."""
TOLERANCE_SECONDS = 300


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """The value of the signature header: the MAC of `timestamp.body`."""
    return "sha256=" + hmac.new(secret.encode(), b"%d.%s" % (timestamp, body), sha256).hexdigest()


def is_genuine(
    secret: str, timestamp: str, body: bytes, signature: str, now: float, tolerance_seconds: float = TOLERANCE_SECONDS
) -> bool:
    """What a receiver checks: made with the secret, over this body, not long ago."""
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        return False
    expected = sign(secret, int(timestamp), body)
    is_recent = abs(now - int(timestamp)) <= tolerance_seconds
    return hmac.compare_digest(expected.encode(), signature.encode()) and is_recent
