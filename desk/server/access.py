"""Who may look and who may repair: tokens, the header of a reverse proxy, sessions, and tokens against CSRF.

A person comes with one of three things: the user name in the header of a trusted proxy, a token as ``Authorization:
Bearer``, or the cookie of a session that was begun with a token. Cookies and proxies vouch for whatever page a browser
is sent to, so each form also carries a token that only our pages know.
"""

import hmac
import secrets
from dataclasses import dataclass
from enum import IntEnum

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from desk.server.config import ServerConfig

COOKIE = "desk_session"
_FORM = "form"
_SESSION = "session"


class Role(IntEnum):
    """What somebody may do; a higher role may also do what the lower ones may."""

    NOBODY = 0
    VIEWER = 1
    REPAIRER = 2


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who sends a request. ``session_id`` is what their forms are bound to; None for a bearer token."""

    name: str
    role: Role
    session_id: str | None


class Access:
    """Tells who sends a request."""

    def __init__(self, config: ServerConfig) -> None:
        """Sessions end with the process: their secret is made here."""
        self._config = config
        secret = secrets.token_bytes(32)
        self._sessions = URLSafeTimedSerializer(secret, salt=_SESSION)
        self._forms = URLSafeTimedSerializer(secret, salt=_FORM)

    def person(self, request: Request) -> Person:
        """Who sends the request. The name is for the audit."""
        if (person := self._by_proxy(request)) is not None:
            return person
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            role = self.role_of(token.strip())
            return Person(_token_name(role), role, None)
        return self._by_cookie(request)

    def role_of(self, token: str) -> Role:
        """The role that a token gives."""
        for secret, role in (
            (self._config.repairer_token, Role.REPAIRER),
            (self._config.viewer_token, Role.VIEWER),
        ):
            if secret is not None and hmac.compare_digest(secret.get_secret_value().encode(), token.encode()):
                return role
        return Role.NOBODY

    def _by_proxy(self, request: Request) -> Person | None:
        header = self._config.user_header
        if header is None or request.client is None or request.client.host not in self._config.trusted_proxies:
            return None
        user = request.headers.get(header, "").strip()
        if not user:
            return None
        role = Role.REPAIRER if user in self._config.repairers else Role.VIEWER
        return Person(user, role, f"proxy:{user}")

    def _by_cookie(self, request: Request) -> Person:
        try:
            session_id, role = self._sessions.loads(
                request.cookies.get(COOKIE, ""), max_age=self._config.session_seconds
            )
        except BadSignature:
            return Person("nobody", Role.NOBODY, None)
        return Person(_token_name(Role(role)), Role(role), session_id)

    def begin_session(self, response: Response, role: Role) -> None:
        """Gives the browser a new session. It never keeps the id that it had before its role was known."""
        response.set_cookie(
            COOKIE,
            self._sessions.dumps([secrets.token_hex(16), int(role)]),
            max_age=self._config.session_seconds,
            path="/",
            secure=self._config.secure_cookies,
            httponly=True,
            samesite="strict",
        )

    def end_session(self, response: Response) -> None:
        """Takes the session back."""
        response.delete_cookie(COOKIE, path="/")

    def form_token(self, person: Person) -> str:
        """The token for the forms of a page; empty for somebody without a session, who gets no form but the login."""
        return "" if person.session_id is None else str(self._forms.dumps(person.session_id))

    def is_own_form(self, request: Request, person: Person, token: str) -> bool:
        """Whether a form was sent by one of our pages. A bearer token comes from no page, and needs no token."""
        if not _is_same_origin(request):
            return False
        if person.session_id is None:
            return True
        try:
            session_id = self._forms.loads(token, max_age=self._config.session_seconds)
        except BadSignature:
            return False
        return hmac.compare_digest(str(session_id).encode(), person.session_id.encode())


def _is_same_origin(request: Request) -> bool:
    """What the browser says about the page that sends a form. Programs say nothing."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")


def _token_name(role: Role) -> str:
    return {Role.NOBODY: "nobody", Role.VIEWER: "viewer token", Role.REPAIRER: "repairer token"}[role]
