"""The security policy of an organisation, asked for over HTTP."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.config.loader import load
from common.domain.faults import TaskFault, WorldFault
from reports.config import ReportsConfig
from reports.model import ReportError
from reports.protection import Level, Protection
from reports.user_org import SecurityPolicy
from tests.support.required_keys import REQUIRED
from tests.support.user_org import UserOrg

JOB = "progress-exhaust"
ENCRYPTED = "nhYIB7V60LXo3tIjYqGlf2oaV5b1sdSGE9bmVlBgFEioae9Cy3mNzwS1IY3rZhI9Ex/EtM3MNJ7ihMmKAhEVcw=="
"""``secret``, encrypted with the key SunBird."""


@pytest.fixture
def service() -> Iterator[UserOrg]:
    with UserOrg() as service:
        service.organisations["tn"] = {"id": "org-1", "channel": "tn"}
        yield service


def protection(base_url: str | None, key: str | None = None, **variables: str) -> Protection:
    environ = {f"AGGREGATES__{name}": value for name, value in variables.items()}
    if base_url is not None:
        environ["AGGREGATES__USER_ORG__BASE_URL"] = base_url
    # A busy machine must not look like a server that is down.
    environ |= {"AGGREGATES__HTTP__REQUEST_TIMEOUT_MS": "2000", "AGGREGATES__HTTP__CALL_TIMEOUT_MS": "2500"}

    async def ask() -> Protection:
        policy = SecurityPolicy(load(ReportsConfig, environ=REQUIRED[ReportsConfig] | environ))
        try:
            return await policy.protection(JOB, "tn", key)
        finally:
            await policy.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(("key", "level"), [(None, Level.PLAIN), ("", Level.PLAIN), ("secret", Level.PASSWORD)])
def test_without_the_service_the_key_decides(key: str | None, level: Level) -> None:
    assert protection(None, key).level == level


def test_the_key_is_decrypted() -> None:
    assert protection(None, ENCRYPTED, ENCRYPTION__SUNBIRD_ENCRYPTION_KEY="SunBird").password == "secret"
    assert protection(None, ENCRYPTED).password == ENCRYPTED


@pytest.mark.parametrize(
    ("policy", "level"),
    [
        (None, Level.PASSWORD),
        ({}, Level.PASSWORD),
        # Nobody gets less than was asked for.
        ({"level": "PLAIN_DATASET"}, Level.PASSWORD),
        ({"level": "PASSWORD_PROTECTED_DATASET"}, Level.PASSWORD),
        ({"level": "PLAIN_DATASET", "job": {JOB: {"level": "TEXT_KEY_ENCRYPTED_DATASET"}}}, Level.TEXT_KEY),
        ({"level": "TEXT_KEY_ENCRYPTED_DATASET", "job": {"other": {"level": "PLAIN_DATASET"}}}, Level.TEXT_KEY),
        ({"level": "TEXT_KEY_ENCRYPTED_DATASET", "job": {JOB: {"level": ""}}}, Level.TEXT_KEY),
    ],
)
def test_the_report_comes_before_the_organisation(service: UserOrg, policy: Any, level: Level) -> None:
    service.policies["org-1"] = policy
    assert protection(service.base_url, "secret").level == level


def test_an_organisation_that_is_no_tenant_is_known_by_its_id(service: UserOrg) -> None:
    del service.organisations["tn"]
    service.policies["tn"] = {"level": "TEXT_KEY_ENCRYPTED_DATASET"}
    assert protection(service.base_url, "secret").level == Level.TEXT_KEY


def test_a_plain_report_that_nobody_wants_encrypted(service: UserOrg) -> None:
    service.policies["org-1"] = {"level": "PLAIN_DATASET"}
    assert protection(service.base_url) == Protection()


@pytest.mark.parametrize("level", ["PASSWORD_PROTECTED_DATASET", "TEXT_KEY_ENCRYPTED_DATASET", "TOP_SECRET", 7])
def test_what_cannot_be_fulfilled_fails(service: UserOrg, level: Any) -> None:
    service.policies["org-1"] = {"level": level}
    with pytest.raises(ReportError):
        protection(service.base_url)


class TestPublicKeys:
    PATH = "/org-1/public.pem"

    @pytest.fixture(autouse=True)
    def policy(self, service: UserOrg) -> None:
        service.policies["org-1"] = {"level": "PUBLIC_KEY_ENCRYPTED_DATASET"}

    def test_of_the_organisation(self, service: UserOrg) -> None:
        key = rsa.generate_private_key(65537, 2048).public_key()
        service.files[self.PATH] = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        service.organisations["tn"]["keys"] = {"exhaustEncryptionKey": [service.base_url + self.PATH]}
        found = protection(service.base_url).public_key
        assert found is not None and found.public_numbers() == key.public_numbers()

    @pytest.mark.parametrize("keys", [None, {}, {"exhaustEncryptionKey": []}, {"exhaustEncryptionKey": "x"}])
    def test_none(self, service: UserOrg, keys: Any) -> None:
        service.organisations["tn"]["keys"] = keys
        with pytest.raises(ReportError, match="needs a public key, which tn lacks"):
            protection(service.base_url)

    def test_a_file_that_is_not_there(self, service: UserOrg) -> None:
        service.organisations["tn"]["keys"] = {"exhaustEncryptionKey": [service.base_url + self.PATH]}
        with pytest.raises(WorldFault, match="status 404"):
            protection(service.base_url)


@pytest.mark.parametrize(("status", "fault"), [(503, WorldFault), (401, TaskFault)])
def test_without_an_answer_nothing_goes_out(service: UserOrg, status: int, fault: type[Exception]) -> None:
    service.status = status
    with pytest.raises(fault):
        protection(service.base_url)


@pytest.mark.parametrize("path", ["/private/v2/org/search", "/private/v2/org/preferences/read"])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b""),
        (404, b"<html>not found</html>"),
        (404, b'{"message":"no Route matched with those values"}'),
        (400, b'{"message":"bad request"}'),
        (200, b"{}"),
        (200, b'{"status":"UP"}'),
        (200, b'{"responseCode":"OK","result":{}}'),
        (200, b'{"responseCode":"OK","result":{"response":"SUCCESS"}}'),
    ],
)
def test_what_a_proxy_answers_is_not_taken_for_no_policy(service: UserOrg, path: str, status: int, body: bytes) -> None:
    """A tenant that wants its reports encrypted would get them in plain text."""
    service.policies["org-1"] = service.policies["tn"] = {"level": "TEXT_KEY_ENCRYPTED_DATASET"}
    service.instead[path] = (status, body)
    with pytest.raises(TaskFault, match=f"status {status} for .* check user_org.base_url"):
        protection(service.base_url, "secret")
