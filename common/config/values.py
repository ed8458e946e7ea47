"""The types of configuration values, each with the check that explains what is allowed."""

import re
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, Strict
from pydantic_core import PydanticCustomError

_HOST = re.compile(rb"[\w.:-]+")
"""A name or an address, as it is looked up. Clients refuse some other characters only when they send a request."""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _one_word(text: str) -> str:
    if text.split() != [text]:
        raise ValueError("must not be blank and must not hold white space")
    return text


def _servers(text: str) -> str:
    for server in text.split(","):
        host, _, port = server.rpartition(":")
        if not host or not port.isascii() or not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise ValueError("must be host:port, several separated by commas, with ports from 1 to 65535")
    return text


def _base_url(text: str) -> str:
    """Without a slash at its end."""
    if "@" in text:
        raise PydanticCustomError("password_in_url", "must be a URL without a user and a password")
    try:
        url = urlsplit(text)
        # As the client does it for each request. A label of a host that is empty or too long makes it fail.
        host = (url.hostname or "").encode("idna")
        is_possible = url.scheme in ("http", "https") and _HOST.fullmatch(host) and url.port != 0
    except ValueError:
        is_possible = False
    if not is_possible or "?" in text or "#" in text or not text.isprintable() or " " in text:
        raise ValueError("must be a URL like https://host:port/path")
    return text.rstrip("/")


def _url_prefix(text: str) -> str:
    _base_url(text)
    if not text.endswith("/"):
        raise ValueError("must end with a slash, because an id is appended to it")
    return text


def _time_zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):  # unknown, not a relative path, a folder of zones
        raise ValueError("must be the name of a time zone like UTC or Asia/Kolkata") from None
    return text


def _no_own_key(name: str) -> str:
    # Also because a password inside sasl.jaas.config would be printed as any other value.
    if name.startswith(("sasl.", "ssl.", "security.")) or name in ("bootstrap.servers", "group.id"):
        raise ValueError("must not be set here: it has a key of its own in the section kafka")
    return name


def _property(value: Any) -> Any:
    """Numbers and booleans as the text that Kafka's clients take them from."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[str, AfterValidator(_not_blank)]
Word = Annotated[str, AfterValidator(_one_word)]
Servers = Annotated[Word, AfterValidator(_servers)]
Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[int, Field(gt=0)]
RedisDatabase = Annotated[int, Field(ge=0)]
Texts = Annotated[tuple[Text, ...], Strict(False), Field(min_length=1)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
UrlPrefix = Annotated[str, AfterValidator(_url_prefix)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Topic = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
Properties = dict[Annotated[str, AfterValidator(_no_own_key)], Annotated[str, BeforeValidator(_property)]]
Secret = SecretStr | None
"""A key of this type has a twin ``<key>_file``, which names a file that holds the secret."""
