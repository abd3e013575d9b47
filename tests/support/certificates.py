"""Certificates for a test's TLS: a CA and what it signs, in PEM files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Pair:
    """A certificate file and its key file."""

    certificate: Path
    key: Path


class Authority:
    """A CA; two of one name have different keys.

    Attributes
    ----------
    path : its certificate
    """

    def __init__(self, folder: Path, name: str = "Hospital CA") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        own = self._builder(name, self._key, days=3650).add_extension(x509.BasicConstraints(True, None), True)
        self.path = folder / "ca.pem"
        self.path.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def sign(
        self,
        file_name: str,
        *,
        names: tuple[str, ...] = ("localhost", "127.0.0.1"),
        days: float = 90,
        start_days: float = -1,
        passphrase: bytes | None = None,
        kind: str = "ec",
    ) -> Pair:
        """Make a key and a certificate that is valid from one day to the other, counted from now."""
        key = (
            ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
        )
        alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
        builder = self._builder(file_name, key, days=days, start_days=start_days)
        certificate = builder.add_extension(alternatives, False).sign(self._key, hashes.SHA256())
        pair = Pair(self._folder / f"{file_name}.pem", self._folder / f"{file_name}.key")
        pair.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        cover = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, cover))
        pair.key.chmod(0o600)
        return pair

    def _builder(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
        *,
        days: float,
        start_days: float = -1,
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=start_days))
            .not_valid_after(now + timedelta(days=days))
        )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
