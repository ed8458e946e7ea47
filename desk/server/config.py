"""The configuration of the desk's server."""

from typing import Annotated, Self

from pydantic import Field, Strict, model_validator

from common.config.section import Section, conflict
from common.config.values import Port, Positive, Secret, Text, Word

Words = Annotated[tuple[Word, ...], Strict(False)]
MIN_TOKEN_CHARACTERS = 16
"""So that nobody finds a token by trying."""

HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$")]


class ServerConfig(Section):
    """Where the pages are served, and who may see and do what."""

    host: Word = "127.0.0.1"
    port: Port = 19187
    viewer_token: Secret = None
    viewer_token_file: Text | None = None
    repairer_token: Secret = None
    repairer_token_file: Text | None = None
    user_header: HeaderName | None = None
    trusted_proxies: Words = ("127.0.0.1",)
    repairers: Words = ()
    secure_cookies: bool = True
    session_seconds: Positive = 8 * 3600
    refresh_seconds: Positive = 5
    max_batches: Positive = 20
    findings_file: Text | None = None

    @model_validator(mode="after")
    def _repairers_come_by_the_proxy(self) -> Self:
        if self.repairers and self.user_header is None:
            raise conflict("repairers are users of the proxy, so user_header must be set", "repairers", "user_header")
        return self

    @model_validator(mode="after")
    def _tokens_are_good(self) -> Self:
        tokens = {"viewer_token": self.viewer_token, "repairer_token": self.repairer_token}
        for name, token in tokens.items():
            if token is not None and len(token.get_secret_value()) < MIN_TOKEN_CHARACTERS:
                raise conflict(f"a token must have at least {MIN_TOKEN_CHARACTERS} characters", name)
        if self.viewer_token is not None and self.viewer_token == self.repairer_token:
            raise conflict("viewer_token and repairer_token must differ", *tokens)
        return self

    @property
    def has_access(self) -> bool:
        """Whether anybody may look: without a token and a header the server does not start."""
        return self.viewer_token is not None or self.user_header is not None
