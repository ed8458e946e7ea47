"""Who asks: RS256 tokens, verified against a folder of public keys.

The name of a key's file, with or without ``.pem``, is its key id. Keys are read once, at start.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from common.config.loader import ConfigError
from services.envelope import MANAGED_USER_TOKEN, USER_TOKEN

_ALGORITHMS = ["RS256"]
_MIN_KEY_BITS = 2_048

Keys = Mapping[str, RSAPublicKey]


class InvalidToken(Exception):
    """There is no token, or it does not hold. The text is for the log and has no part of the token in it."""


class Identity(NamedTuple):
    """Who asks (*requestedBy*) and, where a managed user's token came along, for whom (*requestedFor*)."""

    requested_by: str
    requested_for: str | None

    @property
    def user_id(self) -> str:
        """Whose data it is about."""
        return self.requested_for or self.requested_by


def load_keys(folder: Path) -> Keys:
    """The public keys in a folder by key id; hidden files are passed over. Raises ConfigError."""
    keys: dict[str, RSAPublicKey] = {}
    problems = []
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file())
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


class Tokens:
    """Verifies the tokens of requests."""

    def __init__(self, keys: Keys, issuer: str | None = None, leeway_seconds: int = 0) -> None:
        """``issuer`` is the only one that a user's token may come from, None allows any with a known key."""
        self._keys = keys
        self._issuer = issuer
        self._leeway_seconds = leeway_seconds

    def identify(self, headers: Mapping[str, str]) -> Identity:
        """The users of a request's headers. Raises InvalidToken.

        A managed user's token holds only together with that of the user who manages it, its ``parentId``.
        """
        requested_by = _user_id(self._verify(headers.get(USER_TOKEN), self._issuer))
        managed = headers.get(MANAGED_USER_TOKEN)
        if not managed:
            return Identity(requested_by, None)
        claims = self._verify(managed, None)
        if claims.get("parentId") != requested_by:
            raise InvalidToken("the managed user's token belongs to another user")
        return Identity(requested_by, _user_id(claims))

    def _verify(self, token: str | None, issuer: str | None) -> Mapping[str, Any]:
        """The claims of a token whose signature and time hold."""
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
                # The audience is that of the client which the user logged in with.
                options={"require": ["exp", "sub"], "verify_aud": False, "verify_iss": issuer is not None},
            )
        except (jwt.PyJWTError, RecursionError) as error:
            raise InvalidToken(f"{type(error).__name__}: {error}") from error


def _user_id(claims: Mapping[str, Any]) -> str:
    """The subject; one like ``f:<provider>:<id>`` is cut down to the id."""
    subject = claims["sub"]
    user_id: str = subject.rpartition(":")[2] if subject.startswith("f:") else subject
    if not user_id.strip():
        raise InvalidToken("blank subject")
    return user_id
