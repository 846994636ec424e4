"""The sensor's identity: its key, made here and never sent, its certificate, and how it got them.

Before there is a certificate, the intake is known by the fingerprint in the token; afterwards by our authority alone,
never by the system's. The secret goes out only to the server whose fingerprint matched.
"""

import hashlib
import socket
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect

from rules.errors import Refused
from rules.messages_enrolment import EnrolmentToken
from rules.messages_json import Fields, dumps, loads, read
from rules.messages_link import (
    ENROLMENT_PATH,
    INTAKE_FRAME_LIMIT,
    SERVER_NAME,
    Enrolment,
    Issued,
    Refusal,
    parse_intake_frame,
    render_sensor_frame,
)
from rules.zone import NAME
from sensors import files

_KEPT_BYTES = 8_192
"""More than key, certificates and address together."""


class EnrolmentFailed(Exception):
    """The intake could not be reached, or isn't the one the token names; the token is still good."""


@dataclass(frozen=True, slots=True)
class Request:
    """A new key and the request to certify it."""

    key: ec.EllipticCurvePrivateKey
    pem: str

    @classmethod
    def new(cls, name: str | None) -> "Request":
        """A key on P-256; without a name the intake's token decides it."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        return cls(key, request.public_bytes(serialization.Encoding.PEM).decode())


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this sensor is, and where its intake."""

    directory: Path
    """Holds `identity.pem` (key and certificate), `authority.pem` and `intake.json`."""
    host: str
    port: int
    name: str
    """As in the certificate."""
    not_before: datetime
    not_after: datetime

    @classmethod
    def load(cls, directory: Path) -> "Identity | None":
        """The identity kept in the directory; None before enrolment; `Refused` when the files make no sense."""
        try:
            raw = (directory / "intake.json").read_bytes()
            pem = (directory / "identity.pem").read_bytes()
        except FileNotFoundError:
            return None
        host, port = read(loads(raw, 10_000), str(directory / "intake.json"), _read_address)
        certificate = _certificate(pem.decode("ascii", "replace"))
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return cls(directory, host, port, _common_name(certificate), begin, end)

    def client_context(self) -> ssl.SSLContext:
        """TLS 1.3, our certificate shown, the intake's checked against our authority and its fixed name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(self.directory / "authority.pem")
        context.load_cert_chain(self.directory / "identity.pem")
        return context

    def wants_renewal(self, now: datetime) -> bool:
        """Whether less than a third of the certificate's time is left."""
        return now > self.not_after - (self.not_after - self.not_before) / 3

    def renewed(self, key: ec.EllipticCurvePrivateKey, issued: Issued) -> "Identity":
        """Keep a new certificate, then be known by it; raises `Refused` for one that isn't ours."""
        return _keep(self.directory, self.host, self.port, key, issued)


def enrol(token: EnrolmentToken, directory: Path, name: str | None = None, timeout_seconds: float = 10) -> Identity:
    """Trade the token for a certificate and keep it in the directory.

    Raises `Refused` when the intake says no, also to a name that isn't the token's; `EnrolmentFailed` when there was no
    answer that could be trusted; `OSError` when the directory can't be written. None of these costs a good token.
    """
    files.private_directory(directory)
    _try_to_keep(directory)
    request = Request.new(name)
    try:
        answer = _exchange(token, Enrolment(token.secret, request.pem), timeout_seconds)
    except InvalidStatus as error:
        raise EnrolmentFailed(f"{token.host}:{token.port}: {error.response.body.decode('ascii', 'replace')}") from None
    except ssl.SSLError as error:
        why = f"something answers that is no intake, or an old one ({error.reason or error})"
        raise EnrolmentFailed(f"{token.host}:{token.port}: {why}") from error
    except OSError as error:
        why = "no answer" if isinstance(error, TimeoutError) and not error.errno else error.strerror or str(error)
        raise EnrolmentFailed(f"{token.host}:{token.port}: the intake can't be reached: {why}") from error
    except WebSocketException as error:
        raise EnrolmentFailed(f"{token.host}:{token.port}: {error}") from error
    match answer:
        case Issued():
            return _keep(directory, token.host, token.port, request.key, answer)
        case Refusal(problems=problems) if problems:
            raise Refused.all(problems)
        case _:
            raise EnrolmentFailed(f"{token.host}:{token.port}: answered with something else: {type(answer).__name__}")


def _try_to_keep(directory: Path) -> None:
    """A token is good once: what could not be kept afterwards would be lost with it."""
    probe = directory / "probe"
    files.write(probe, bytes(_KEPT_BYTES))
    probe.unlink()


def _exchange(token: EnrolmentToken, frame: Enrolment, timeout_seconds: float) -> object:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # There is no authority to check against yet; the fingerprint below takes its place.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((token.host, token.port), timeout_seconds) as plain,
        context.wrap_socket(plain, server_hostname=SERVER_NAME) as secure,
    ):
        shown = hashlib.sha256(secure.getpeercert(binary_form=True) or b"").hexdigest()
        if shown != token.fingerprint:
            raise EnrolmentFailed(
                f"{token.host}:{token.port} shows the certificate {shown}, not {token.fingerprint} as the token says: "
                "somebody stands in between, or the token is from another intake"
            )
        # The socket is encrypted already, so the library sees a plain one.
        uri = f"ws://{SERVER_NAME}{ENROLMENT_PATH}"
        with connect(
            uri,
            sock=secure,
            compression=None,
            proxy=None,
            open_timeout=timeout_seconds,
            close_timeout=1,
            max_size=INTAKE_FRAME_LIMIT,
        ) as websocket:
            websocket.send(render_sensor_frame(frame), text=True)
            return parse_intake_frame(websocket.recv(timeout_seconds, decode=False))


def _keep(directory: Path, host: str, port: int, key: ec.EllipticCurvePrivateKey, issued: Issued) -> Identity:
    certificate = _certificate(issued.certificate)
    if certificate.public_key() != key.public_key():
        raise Refused("certificate", _common_name(certificate), "is for another key than ours")
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.write(directory / "authority.pem", issued.authority.encode())
    # Key and certificate are one file, so that they are replaced together.
    files.write(directory / "identity.pem", private + issued.certificate.encode())
    files.write(directory / "intake.json", dumps({"host": host, "port": port}) + b"\n")
    identity = Identity.load(directory)
    assert identity is not None
    return identity


def _certificate(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode("ascii"))
    except ValueError as error:
        raise Refused("certificate", pem[-60:], f"is no certificate: {error}") from None


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if names else ""
    if not NAME.fullmatch(name):
        raise Refused("certificate", name, "names no sensor")
    return name


def _read_address(fields: Fields) -> tuple[str, int]:
    return fields.text("host", 253), fields.integer("port", 1, 65535)
