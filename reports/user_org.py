"""The user and org service: how an organisation wants its reports to be protected."""

from collections.abc import Mapping
from typing import Any

import aiohttp

from common.domain.faults import TaskFault, WorldFault
from common.metrics import Metrics
from common.servers.http import ApiClient
from common.servers.http_answers import Answer
from reports.config import ReportsConfig
from reports.model import ReportError
from reports.protection import Level, Protection, decrypt_key, read_public_key

_NOT_FOUND = (400, 404)


class SecurityPolicy:
    """The tenant preference ``dataSecurityPolicy``, asked for as Sunbird's exhaust jobs do (``DataSecurityUtil``)."""

    def __init__(self, config: ReportsConfig) -> None:
        """Connects with the first question. To be called inside the event loop."""
        self._config = config
        base_url = config.user_org.base_url
        self._search = self._preferences = None
        if base_url is not None:
            self._search = ApiClient("org_search", f"{base_url}/private/v2/org/search", config.http, Metrics())
            self._preferences = ApiClient(
                "org_preferences", f"{base_url}/private/v2/org/preferences/read", config.http, Metrics()
            )
        self._organisations: dict[str, dict[str, Any]] = {}
        self._levels: dict[tuple[str, str], Level | None] = {}

    async def close(self) -> None:
        """Closes the connections."""
        for client in (self._search, self._preferences):
            if client is not None:
                await client.close()

    async def protection(self, job_id: str, channel: str, encryption_key: str | None) -> Protection:
        """How a report for an organisation is protected.

        A request with a key is never protected less than by a password, whatever the policy says. Raises ReportError if
        the policy needs a key that is not there, WorldFault and TaskFault.
        """
        password = self._password(encryption_key)
        level = await self._level(job_id, channel)
        if level is None or level == Level.PLAIN:
            level = Level.PASSWORD if password else Level.PLAIN
        if level == Level.PUBLIC_KEY:
            return Protection(level, public_key=read_public_key(await self._public_key(channel)))
        return Protection(level, password)

    def _password(self, encryption_key: str | None) -> str | None:
        secret = self._config.encryption.sunbird_encryption_key
        if not encryption_key or secret is None:
            return encryption_key or None
        return decrypt_key(encryption_key, secret.get_secret_value(), self._config.encryption.aes_key)

    async def _level(self, job_id: str, channel: str) -> Level | None:
        """That of the report, or else that of the organisation; None without a policy."""
        if self._preferences is None:
            return None
        if (job_id, channel) not in self._levels:
            organisation = await self._organisation(channel)
            asked = {"orgId": organisation.get("id") or channel, "key": "dataSecurityPolicy"}
            answer = await self._preferences.post({"request": asked})
            level = None
            if _is_found(answer, "dataSecurityPolicy"):
                job_level = answer.at("result", "response", "data", "job", job_id, "level")
                level = _to_level(job_level or answer.at("result", "response", "data", "level"))
            self._levels[job_id, channel] = level
        return self._levels[job_id, channel]

    async def _organisation(self, channel: str) -> dict[str, Any]:
        """The tenant with this channel, empty if there is none."""
        if self._search is None:
            return {}
        if channel not in self._organisations:
            answer = await self._search.post({"request": {"filters": {"channel": channel, "isTenant": True}}})
            match answer.at("result", "response", "content") if _is_found(answer, "org search") else None:
                case [dict() as organisation, *_]:
                    self._organisations[channel] = organisation
                case _:
                    self._organisations[channel] = {}
        return self._organisations[channel]

    async def _public_key(self, channel: str) -> bytes:
        organisation = await self._organisation(channel)
        match organisation:
            case {"keys": {"exhaustEncryptionKey": [str(url), *_]}}:
                pass
            case _:
                raise ReportError(f"The security level {Level.PUBLIC_KEY} needs a public key, which {channel} lacks")
        timeout = aiohttp.ClientTimeout(total=self._config.http.request_timeout_ms / 1000)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
                if response.status != 200:
                    raise WorldFault(f"the public key of {channel} is not there: status {response.status} of {url}")
                return await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise WorldFault(f"the public key of {channel} cannot be read from {url}: {error}") from error


def _is_found(answer: Answer, name: str) -> bool:
    """Whether the service has what it was asked for.

    Raises TaskFault if it refuses the question, and if the answer is not its own: a gateway answers so where there is
    no such service. Then no report may be less protected than it should be.
    """
    if answer.status in _NOT_FOUND and answer.at("responseCode") is not None:
        return False
    if answer.is_success and isinstance(answer.at("result", "response"), Mapping):
        return True
    if answer.is_success or answer.status in _NOT_FOUND:
        raise TaskFault(
            f"status {answer.status} for {name} is no answer of the user and org service: check user_org.base_url"
        )
    raise TaskFault(f"the user and org service refuses {name}: status {answer.status}")


def _to_level(name: Any) -> Level | None:
    """None without a level. Raises ReportError for one that is unknown: it may be stricter than all that we know."""
    if not name:
        return None
    try:
        return Level(name)
    except ValueError:
        raise ReportError(f"The organisation's security level {name!r} is unknown") from None
