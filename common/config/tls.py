"""The sections for TLS: files of certificates, and what is verified."""

from typing import Literal, Self

from pydantic import model_validator

from common.config.section import Section, conflict
from common.config.values import Secret, Text


class CertificateFiles(Section):
    """The PEM files of a certificate and its key: both, or none of them."""

    certificate_file: Text | None = None
    key_file: Text | None = None

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise conflict("certificate_file and key_file must be set together", "certificate_file", "key_file")
        return self


class EncryptedCertificateFiles(CertificateFiles):
    """A certificate whose key may be encrypted."""

    key_password: Secret = None
    key_password_file: Text | None = None


class KafkaTlsConfig(EncryptedCertificateFiles):
    """TLS for Kafka. ``security_protocol`` switches it on."""

    ca_file: Text | None = None
    verify: Literal["hostname", "certificate"] = "hostname"


class CassandraTlsConfig(EncryptedCertificateFiles):
    """TLS for Cassandra. Without ``ca_file`` the system's authorities are trusted.

    ``verify: hostname`` compares the certificate with the IP address of the node.
    """

    enabled: bool = False
    ca_file: Text | None = None
    verify: Literal["hostname", "certificate", "none"] = "hostname"


class RedisTlsConfig(CertificateFiles):
    """TLS for Redis. Without ``ca_file`` the system's authorities are trusted."""

    enabled: bool = False
    ca_file: Text | None = None
    verify: Literal["hostname", "certificate", "none"] = "hostname"
