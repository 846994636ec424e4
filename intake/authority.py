"""The intake's own certificate authority: made on first start, signs the intake and its sensors, nobody else.

The key of the authority never leaves its file (0600). A sensor's certificate is good for TLS clients only and the
intake's for servers only, so that no sensor can pose as the intake.
"""

import hashlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from intake import files
from rules.errors import Refused
from rules.messages_link import SERVER_NAME

_AUTHORITY_DAYS, _SERVER_DAYS, _SERVER_RENEWAL_DAYS = 3650, 825, 30
_CLOCK_SLACK = timedelta(minutes=5)
"""Certificates begin a little earlier: a sensor's clock may lag."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A sensor's new certificate."""

    pem: str
    serial: int
    not_after: datetime


@dataclass(frozen=True, slots=True)
class _Pair:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


class Authority:
    """Signs; `Authority.open` makes what is missing."""

    def __init__(self, directory: Path, root: _Pair, server: _Pair) -> None:
        self._directory, self._root, self._server = directory, root, server

    @classmethod
    def open(cls, directory: Path, now: datetime) -> "Authority":
        """The authority kept in the directory; a new one where there is none. Renews the intake's own certificate
        when it ends within 30 days."""
        files.private_directory(directory)
        with files.locked(directory):
            root = _load(directory, "authority") or _make_root(directory, now)
            server = _load(directory, "server")
            if server is None or server.certificate.not_valid_after_utc - now < timedelta(days=_SERVER_RENEWAL_DAYS):
                server = _make_server(directory, root, now)
        return cls(directory, root, server)

    @property
    def pem(self) -> str:
        """The authority's certificate, what sensors check the intake against."""
        return _pem(self._root.certificate)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the intake's certificate, 64 hex digits, as enrolment tokens carry it."""
        return hashlib.sha256(self._server.certificate.public_bytes(serialization.Encoding.DER)).hexdigest()

    def server_context(self) -> ssl.SSLContext:
        """TLS 1.3; a client certificate is asked for but only the link's path needs one, enrolment has none yet."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0  # a resumed session would outlive its certificate
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.pem)
        context.load_cert_chain(self._directory / "server.pem", self._directory / "server.key")
        return context

    def issue(self, request_pem: str, sensor: str, lifetime: timedelta, now: datetime) -> Issued:
        """A certificate for a sensor's signing request; raises `Refused` for one that isn't sound or names another."""
        request = _sound_request(request_pem, sensor)
        builder = (
            _builder(sensor, self._root.certificate.subject, now, lifetime)
            .public_key(request.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"urn:stopbank:sensor:{sensor}")]), False
            )
        )
        certificate = _signed(builder, self._root.key, self._root.key)
        return Issued(_pem(certificate), certificate.serial_number, certificate.not_valid_after_utc)


def _sound_request(pem: str, sensor: str) -> x509.CertificateSigningRequest:
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = request.public_key()
        is_signed = request.is_signature_valid
        names = [attribute.value for attribute in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise Refused("request", pem[:60], f"is no certificate signing request: {error}") from None
    if not is_signed:
        raise Refused("request", pem[:60], "is not signed with its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Refused("request", type(key).__name__, "the key must be on the curve P-256")
    if names not in ([], [sensor]):
        raise Refused("request.name", " ".join(map(str, names)), f"is another sensor than the token's, {sensor!r}")
    return request


def _make_root(directory: Path, now: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Stopbank intake authority")])
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        _builder("Stopbank intake authority", name, now, timedelta(days=_AUTHORITY_DAYS))
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return _save(directory, "authority", _Pair(key, _signed(builder, key, key)))


def _make_server(directory: Path, root: _Pair, now: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(SERVER_NAME, root.certificate.subject, now, timedelta(days=_SERVER_DAYS))
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
    )
    return _save(directory, "server", _Pair(key, _signed(builder, root.key, root.key)))


def _builder(common_name: str, issuer: x509.Name, now: datetime, lifetime: timedelta) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SLACK)
        .not_valid_after(now + lifetime)
    )


def _signed(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, issuer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    return builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _save(directory: Path, name: str, pair: _Pair) -> _Pair:
    key = pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.write(directory / f"{name}.key", key)
    # The certificate goes last: where it is, the key is too.
    files.write(directory / f"{name}.pem", _pem(pair.certificate).encode())
    return pair


def _load(directory: Path, name: str) -> _Pair | None:
    try:
        certificate = x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes())
    except FileNotFoundError:
        return None
    key = serialization.load_pem_private_key((directory / f"{name}.key").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise Refused(str(directory / f"{name}.key"), "(not shown)", f"is not the key of {name}.pem")
    return _Pair(key, certificate)


def utc_now() -> datetime:
    """The wall clock, for the rim."""
    return datetime.now(UTC)
