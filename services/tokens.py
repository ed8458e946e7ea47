"""Who sends a request: RS256 tokens, verified with the public keys in a folder.

The name of a key's file, with or without ``.pem``, is its key id. The folder is read at start and whenever it changes.
"""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from common.config.loader import ConfigError
from services.config import TokenConfig
from services.envelope import MANAGED_USER_TOKEN, USER_TOKEN

_LOG = logging.getLogger(__name__)

_ALGORITHMS = ["RS256"]
_MIN_KEY_BITS = 2_048
_PARENT = "parentId"
"""The claim that only tokens of managed users have: the id of the user who manages them."""

Keys = Mapping[str, RSAPublicKey]


class InvalidToken(Exception):
    """There is no token, or it is not valid. The text is for the log and contains no part of the token."""


class Identity(NamedTuple):
    """The user who sends the request (*requestedBy*) and the managed user it is sent for (*requestedFor*), if any."""

    requested_by: str
    requested_for: str | None

    @property
    def user_id(self) -> str:
        """The user whose data is read or written."""
        return self.requested_for or self.requested_by


def load_keys(folder: Path) -> Keys:
    """The public keys in a folder by key id, without hidden files. Raises ConfigError that names each bad file."""
    keys: dict[str, RSAPublicKey] = {}
    problems = []
    try:
        files = _files(folder)
    except OSError as error:
        raise ConfigError([f"tokens.public_keys_folder = {str(folder)!r}: cannot be read: {error.strerror}"]) from None
    for file in files:
        try:
            key = load_pem_public_key(file.read_bytes())
        except (OSError, ValueError, UnsupportedAlgorithm):
            problems.append(f"{file}: must be the PEM file of an RSA public key")
            continue
        if isinstance(key, RSAPublicKey) and key.key_size >= _MIN_KEY_BITS:
            keys[file.name.removesuffix(".pem")] = key
        else:
            problems.append(f"{file}: must be an RSA public key of at least {_MIN_KEY_BITS} bits")
    if not files:
        problems.append(f"tokens.public_keys_folder = {str(folder)!r}: must hold at least one public key")
    if problems:
        raise ConfigError(problems)
    return keys


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file())


def _version(folder: Path) -> object:
    """Differs from an earlier one if a file was added, removed or changed, or the target of a link was."""
    try:
        return [(file.name, (stat := file.stat()).st_mtime_ns, stat.st_size, stat.st_ino) for file in _files(folder)]
    except OSError as error:
        return error.errno


class Tokens:
    """Verifies the tokens of requests with the keys of a folder."""

    def __init__(self, public_keys_folder: Path, issuer: str, leeway_seconds: int = 0) -> None:
        """``issuer`` is the only one whose user tokens are accepted. Raises ConfigError if the keys cannot be read."""
        self._folder = public_keys_folder
        self._version = _version(public_keys_folder)
        self._keys = load_keys(public_keys_folder)
        self._issuer = issuer
        self._leeway_seconds = leeway_seconds

    @classmethod
    def of(cls, config: TokenConfig) -> Self:
        """As configured. Raises ConfigError if the keys cannot be read."""
        return cls(Path(config.public_keys_folder), config.issuer, config.leeway_seconds)

    def identify(self, headers: Mapping[str, str]) -> Identity:
        """The users of a request's headers. Raises InvalidToken.

        The token of a managed user is valid only together with the token of the user who manages it. By itself it is
        refused even where its issuer is the users' one.
        """
        claims = self._verify(headers.get(USER_TOKEN), self._issuer)
        if _PARENT in claims:
            raise InvalidToken("the token of a managed user needs the token of the user who manages it")
        requested_by = _user_id(claims)
        managed = headers.get(MANAGED_USER_TOKEN)
        if not managed:
            return Identity(requested_by, None)
        # Sunbird's user service issues it, without the issuer of the login service.
        managed_claims = self._verify(managed, None)
        if managed_claims.get(_PARENT) != requested_by:
            raise InvalidToken("the managed user's token belongs to another user")
        return Identity(requested_by, _user_id(managed_claims))

    async def watch(self, interval_seconds: float) -> None:
        """Reads the keys again whenever the folder has changed, until it is cancelled.

        The old keys stay in use while the folder cannot be read as a whole, for example in the middle of a copy.
        """
        while True:
            await asyncio.sleep(interval_seconds)
            version = await asyncio.to_thread(_version, self._folder)
            if version == self._version:
                continue
            try:
                keys = await asyncio.to_thread(load_keys, self._folder)
            except ConfigError as error:
                _LOG.warning("the old public keys stay in use: %s", error)
            else:
                self._keys = keys
                _LOG.info("read the public keys again: %s", ", ".join(keys))
            # Taken before the keys were read: a later change is seen next time.
            self._version = version

    def _verify(self, token: str | None, issuer: str | None) -> Mapping[str, Any]:
        """The claims of a token whose signature and time are valid, and whose issuer is ``issuer`` if one is given."""
        if not token:
            raise InvalidToken("no token")
        try:
            key = self._keys.get(jwt.get_unverified_header(token).get("kid", ""))
            if key is None:
                raise InvalidToken("unknown key id")
            return jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                issuer=issuer,
                leeway=self._leeway_seconds,
                # The audience is the client that the user logged in with.
                options={"require": ["exp", "sub"], "verify_aud": False},
            )
        except (jwt.PyJWTError, RecursionError) as error:
            raise InvalidToken(f"{type(error).__name__}: {error}") from error


def _user_id(claims: Mapping[str, Any]) -> str:
    """The subject. One like ``f:<provider>:<id>`` is cut down to the id."""
    subject = claims["sub"]
    user_id: str = subject.rpartition(":")[2] if subject.startswith("f:") else subject
    if not user_id.strip():
        raise InvalidToken("blank subject")
    return user_id
