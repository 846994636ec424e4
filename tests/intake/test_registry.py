"""Tokens work once, for a while, for one name; certificates are ours, for clients only, and can be revoked."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from intake.authority import Authority
from intake.registry import Registry
from rules.errors import Refused
from rules.messages_enrolment import EnrolmentToken
from sensors.enroll import Request

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)
DAYS = timedelta(days=90)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "intake", NOW)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "intake")


def _token(registry: Registry, authority: Authority, sensor: str = "edge-1") -> EnrolmentToken:
    return registry.create_token(sensor, ["web"], ("192.0.2.1", 8443), authority.fingerprint, LATER)


def _enrol(registry: Registry, authority: Authority, token: EnrolmentToken, pem: str, now: datetime = NOW) -> int:
    return registry.enrol(token.digest, pem, authority, DAYS, now)[1].serial


def test_a_token_works_once(registry: Registry, authority: Authority) -> None:
    token, request = _token(registry, authority), Request.new("edge-1")
    serial = _enrol(registry, authority, token, request.pem)
    sensor = registry.identify("edge-1", serial)
    assert sensor is not None and sensor.zones == ("web",)
    with pytest.raises(Refused, match="used"):
        _enrol(registry, authority, token, request.pem)


def test_an_expired_token_is_refused(registry: Registry, authority: Authority) -> None:
    token = _token(registry, authority)
    with pytest.raises(Refused, match="expired"):
        _enrol(registry, authority, token, Request.new(None).pem, LATER)


def test_a_new_token_for_a_name_voids_the_one_before(registry: Registry, authority: Authority) -> None:
    first, second = _token(registry, authority), _token(registry, authority)
    with pytest.raises(Refused):
        _enrol(registry, authority, first, Request.new(None).pem)
    assert _enrol(registry, authority, second, Request.new(None).pem)


def test_secrets_and_keys_are_not_for_others(registry: Registry, authority: Authority, tmp_path: Path) -> None:
    token = _token(registry, authority)
    for path in (tmp_path / "intake").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert token.secret.encode() not in path.read_bytes()
    assert stat.S_IMODE((tmp_path / "intake").stat().st_mode) == 0o700


def test_a_bad_request_leaves_the_token_open(registry: Registry, authority: Authority) -> None:
    token = _token(registry, authority)
    weak = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edge-1")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(weak, hashes.SHA256())
    for pem in ("", "garbage", request.public_bytes(serialization.Encoding.PEM).decode(), Request.new("edge-2").pem):
        with pytest.raises(Refused, match="request"):
            _enrol(registry, authority, token, pem)
    assert _enrol(registry, authority, token, Request.new("edge-1").pem)


@given(st.text(max_size=200))
def test_any_text_as_a_request_is_refused(tmp_path_factory: pytest.TempPathFactory, pem: str) -> None:
    authority = Authority.open(tmp_path_factory.getbasetemp() / "shared-authority", NOW)
    with pytest.raises(Refused):
        authority.issue(pem, "edge-1", DAYS, NOW)


def test_enrolling_a_name_again_revokes_what_it_had(registry: Registry, authority: Authority) -> None:
    first = _enrol(registry, authority, _token(registry, authority), Request.new(None).pem)
    second = _enrol(registry, authority, _token(registry, authority), Request.new(None).pem)
    assert registry.is_revoked(first) and not registry.is_revoked(second)
    assert registry.identify("edge-1", first) is None


def test_the_certificate_before_stays_good_through_one_renewal(registry: Registry, authority: Authority) -> None:
    first = _enrol(registry, authority, _token(registry, authority), Request.new(None).pem)
    second = registry.renew("edge-1", Request.new("edge-1").pem, authority, DAYS, NOW).serial
    assert registry.identify("edge-1", first) and registry.identify("edge-1", second)
    third = registry.renew("edge-1", Request.new("edge-1").pem, authority, DAYS, NOW).serial
    assert registry.identify("edge-1", first) is None
    assert registry.identify("edge-1", second) and registry.identify("edge-1", third)
    registry.revoke("edge-1", NOW)
    assert all(registry.is_revoked(serial) for serial in (second, third))
    assert registry.sensors() == ()


def test_a_name_that_is_not_enrolled_cannot_renew_bind_or_be_revoked(registry: Registry, authority: Authority) -> None:
    with pytest.raises(Refused, match="not enrolled"):
        registry.renew("edge-9", Request.new(None).pem, authority, DAYS, NOW)
    with pytest.raises(Refused, match="not enrolled"):
        registry.bind("edge-9", ["web"])
    with pytest.raises(Refused, match="not enrolled"):
        registry.revoke("edge-9", NOW)


def test_a_token_for_no_name_or_no_zone_is_refused_with_all_problems(registry: Registry, authority: Authority) -> None:
    with pytest.raises(Refused) as caught:
        registry.create_token("Edge 1", ["web", "a b"], ("192.0.2.1", 8443), authority.fingerprint, LATER)
    assert [problem.field for problem in caught.value.problems] == ["sensor", "zones"]
    with pytest.raises(Refused, match="zones"):
        registry.create_token("edge-1", [], ("192.0.2.1", 8443), authority.fingerprint, LATER)


def test_a_damaged_file_is_refused_by_its_name(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "intake" / "sensors.json").write_text('{"sensors":[{"name":1}]}')
    with pytest.raises(Refused, match=r"sensors\.json\.sensors\[0\]\.name"):
        registry.sensors()


def test_the_authority_is_made_once_and_its_server_certificate_renewed_in_time(tmp_path: Path) -> None:
    first = Authority.open(tmp_path / "intake", NOW)
    again = Authority.open(tmp_path / "intake", NOW + timedelta(days=700))
    assert (first.pem, first.fingerprint) == (again.pem, again.fingerprint)
    renewed = Authority.open(tmp_path / "intake", NOW + timedelta(days=800))
    assert renewed.pem == first.pem and renewed.fingerprint != first.fingerprint


def test_a_sensors_certificate_is_for_clients_only(authority: Authority) -> None:
    issued = authority.issue(Request.new(None).pem, "edge-1", DAYS, NOW)
    certificate = x509.load_pem_x509_certificate(issued.pem.encode())
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    root = x509.load_pem_x509_certificate(authority.pem.encode())
    certificate.verify_directly_issued_by(root)
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
