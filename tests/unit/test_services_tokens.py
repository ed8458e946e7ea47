"""Tokens: what holds, what does not, and whose data it opens."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from common.config.loader import ConfigError
from local.tokens import ISSUER, KEY_ID, TokenIssuer
from services.config import TokenConfig
from services.tokens import Identity, InvalidToken, Tokens, load_keys
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> TokenIssuer:
    return TokenIssuer(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def tokens(issuer: TokenIssuer) -> Tokens:
    return Tokens(issuer.public_keys_folder, ISSUER)


def headers(token: str, managed: str | None = None) -> dict[str, str]:
    return {"x-authenticated-user-token": token, **({"x-authenticated-for": managed} if managed else {})}


@pytest.mark.parametrize(
    ("subject", "user_id"), [("u-1", "u-1"), ("f:provider:u-1", "u-1"), ("f:a:b:u-1", "u-1"), ("g:u-1", "g:u-1")]
)
def test_the_subject_is_the_user(tokens: Tokens, issuer: TokenIssuer, subject: str, user_id: str) -> None:
    assert tokens.identify(headers(issuer.token(subject))) == Identity(user_id, None)


def test_a_managed_users_token_holds_with_that_of_its_parent(tokens: Tokens, issuer: TokenIssuer) -> None:
    managed = issuer.token("child", parent="u-1")

    identity = tokens.identify(headers(issuer.token("f:p:u-1"), managed))
    assert (identity, identity.user_id) == (Identity("u-1", "child"), "child")
    for other in (issuer.token("u-2"), issuer.token("child")):
        with pytest.raises(InvalidToken, match="another user"):
            tokens.identify(headers(other, managed))
    # By itself it opens nothing, whoever has issued it.
    for alone in (managed, issuer.token("child", parent="u-1", iss=ISSUER)):
        with pytest.raises(InvalidToken):
            tokens.identify(headers(alone))
        with pytest.raises(InvalidToken):
            tokens.identify(headers(alone, managed))
    # Its issuer is another service than that of users' tokens.
    for child in (issuer.token("child", parent="u-1"), issuer.token("child", parent="u-1", iss="https://user-service")):
        assert tokens.identify(headers(issuer.token("u-1"), child)).user_id == "child"
    with pytest.raises(InvalidToken, match="another user"):
        tokens.identify(headers(issuer.token("u-1"), issuer.token("child")))
    with pytest.raises(InvalidToken, match="no token"):
        tokens.identify({"x-authenticated-for": managed})


def test_whichever_client_the_user_logged_in_with_is_accepted(tokens: Tokens, issuer: TokenIssuer) -> None:
    user, child = issuer.token("u-1", aud="account"), issuer.token("child", parent="u-1", aud=["app", "portal"])

    assert tokens.identify(headers(user, child)) == Identity("u-1", "child")


def test_the_reason_says_what_does_not_hold(tokens: Tokens, issuer: TokenIssuer, tmp_path: Path) -> None:
    reasons = {
        "no token": headers(""),
        "unknown key id": headers(TokenIssuer(tmp_path, "unknown").token("u-1")),
        "ExpiredSignatureError: Signature has expired": headers(issuer.token("u-1", exp=1)),
        "blank subject": headers(issuer.token(" ")),
        "the token of a managed user needs the token of the user who manages it": headers(
            issuer.token("child", parent="u-1", iss=ISSUER)
        ),
        "the managed user's token belongs to another user": headers(
            issuer.token("u-2"), issuer.token("child", parent="u-1")
        ),
    }
    for reason, refused in reasons.items():
        with pytest.raises(InvalidToken) as raised:
            tokens.identify(refused)
        assert str(raised.value) == reason


def test_a_token_must_expire(tokens: Tokens, issuer: TokenIssuer) -> None:
    for user, managed in (
        (_without_exp(issuer, {"sub": "u-1", "iss": ISSUER}), None),
        (issuer.token("u-1"), _without_exp(issuer, {"sub": "child", "parentId": "u-1"})),
    ):
        with pytest.raises(InvalidToken, match="exp"):
            tokens.identify(headers(user, managed))


def _without_exp(issuer: TokenIssuer, claims: dict[str, str]) -> str:
    return jwt.encode(claims, issuer._key, algorithm="RS256", headers={"kid": KEY_ID})


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1},
        {"nbf": 2**33},
        {"exp": None},
        {"exp": "never"},
        {"sub": None},
        {"sub": 5},
        {"sub": " "},
        {"sub": "f:p:"},
    ],
)
def test_claims_that_do_not_hold(tokens: Tokens, issuer: TokenIssuer, claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        tokens.identify(headers(issuer.token("u-1", **claims)))


def test_signatures_that_do_not_hold(tokens: Tokens, issuer: TokenIssuer, tmp_path: Path) -> None:
    token = issuer.token("u-1")
    head, payload, signature = token.split(".")
    claims = {"sub": "u-1", "iss": ISSUER, "exp": int(time.time()) + 60}
    public = (issuer.public_keys_folder / KEY_ID).read_bytes()
    hmac_with_public_key = _hs256(claims, public)
    forged = [
        TokenIssuer(tmp_path).token("u-1"),  # another key under the same id
        TokenIssuer(tmp_path, "unknown").token("u-1"),
        f"{head}.{payload}.",
        f"{head}.{payload}.{signature[::-1]}",
        f"{head}.{payload}",
        jwt.encode(claims, "", algorithm="none", headers={"kid": KEY_ID}),
        hmac_with_public_key,
        "",
        "x",
        "a.b.c",
        "\u00e9.\u00e9.\u00e9",
        jwt.encode(claims, rsa.generate_private_key(65_537, 2_048), algorithm="RS256"),  # no key id
    ]
    for one in forged:
        with pytest.raises(InvalidToken):
            tokens.identify(headers(one))
    assert tokens.identify(headers(token)).user_id == "u-1"


def _hs256(claims: dict[str, Any], key: bytes) -> str:
    """PyJWT refuses to make such a token, so its parts are put together here."""
    import base64
    import hashlib
    import hmac
    import json

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    signed = ".".join(part(json.dumps(value).encode()) for value in ({"alg": "HS256", "kid": KEY_ID}, claims))
    return f"{signed}.{part(hmac.new(key, signed.encode(), hashlib.sha256).digest())}"


def test_only_the_configured_issuer_is_accepted(issuer: TokenIssuer) -> None:
    tokens = Tokens(issuer.public_keys_folder, "https://sso")

    assert tokens.identify(headers(issuer.token("u-1", iss="https://sso"))).user_id == "u-1"
    for token in (issuer.token("u-1", parent="u-0"), issuer.token("u-1"), issuer.token("u-1", iss="https://other")):
        with pytest.raises(InvalidToken):
            tokens.identify(headers(token))


def test_leeway(tokens: Tokens, issuer: TokenIssuer) -> None:
    lenient = Tokens(issuer.public_keys_folder, ISSUER, leeway_seconds=60)

    assert lenient.identify(headers(issuer.token("u-1", life_seconds=-5))).user_id == "u-1"
    with pytest.raises(InvalidToken, match="expired"):
        tokens.identify(headers(issuer.token("u-1", life_seconds=0)))


def test_folder_issuer_and_leeway_are_configured(issuer: TokenIssuer) -> None:
    config = TokenConfig(public_keys_folder=str(issuer.public_keys_folder), issuer="https://sso", leeway_seconds=60)
    tokens = Tokens.of(config)

    assert tokens.identify(headers(issuer.token("u-1", iss="https://sso", life_seconds=-5))).user_id == "u-1"
    with pytest.raises(InvalidToken, match="issuer"):
        tokens.identify(headers(issuer.token("u-1")))


def test_keys_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokens.public_keys_folder = .*missing.* cannot be read"):
        load_keys(tmp_path / "missing")
    with pytest.raises(ConfigError) as raised:
        load_keys(tmp_path)
    assert raised.value.problems == (
        f"tokens.public_keys_folder = {str(tmp_path)!r}: must hold at least one public key",
    )
    (tmp_path / "blank").write_text("no key")
    (tmp_path / "short.pem").write_bytes(_pem(rsa.generate_private_key(65_537, 1_024).public_key()))
    (tmp_path / "curve").write_bytes(_pem(ec.generate_private_key(ec.SECP256R1()).public_key()))
    with pytest.raises(ConfigError) as raised:
        load_keys(tmp_path)
    assert [Path(problem.split(": ")[0]).name for problem in raised.value.problems] == ["blank", "curve", "short.pem"]


def test_the_key_id_is_the_name_of_the_file(tmp_path: Path) -> None:
    pem = _pem(rsa.generate_private_key(65_537, 2_048).public_key())
    for name in ("one.pem", "two", ".hidden"):
        (tmp_path / name).write_bytes(pem)

    assert load_keys(tmp_path).keys() == {"one", "two"}


def _pem(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded


def test_keys_are_read_again_when_the_folder_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old, new = TokenIssuer(tmp_path / "old", "old"), TokenIssuer(tmp_path / "new", "new")
    folder = old.public_keys_folder
    tokens = Tokens(folder, ISSUER)

    def holds(issuer: TokenIssuer) -> bool:
        try:
            tokens.identify(headers(issuer.token("u-1")))
        except InvalidToken:
            return False
        return True

    async def until(condition: Callable[[], bool]) -> None:
        await asyncio.to_thread(wait_until, condition, "the keys are read", 10)

    async def rotate() -> None:
        watching = asyncio.create_task(tokens.watch(0.001))
        assert (holds(old), holds(new)) == (True, False)
        # A copy that is not complete: the old keys stay in use.
        (folder / "new.pem").write_text("-----BEGIN PUBLIC KEY-----")
        await until(lambda: "the old public keys stay in use" in caplog.text)
        assert (holds(old), holds(new)) == (True, False)
        (folder / "new.pem").write_bytes((new.public_keys_folder / "new").read_bytes())
        await until(lambda: holds(new))
        assert holds(old)
        (folder / "old").unlink()
        await until(lambda: not holds(old))
        assert holds(new)
        watching.cancel()

    asyncio.run(rotate())


def test_each_change_is_read_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "services.tokens")
    old, new = TokenIssuer(tmp_path / "old", "old"), TokenIssuer(tmp_path / "new", "new")
    tokens = Tokens(old.public_keys_folder, ISSUER)
    file = old.public_keys_folder / "new.pem"

    def put(key: bytes) -> None:
        # Renamed, so that it is never seen half written.
        (tmp_path / "part").write_bytes(key)
        (tmp_path / "part").rename(file)

    async def pass_time() -> None:
        for _ in range(100):
            await asyncio.to_thread(int)

    async def change() -> None:
        # With one thread, what is awaited here has its turn after what the watch awaits.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        watching = asyncio.create_task(tokens.watch(0))
        await pass_time()
        put(b"no key")
        await pass_time()
        put((new.public_keys_folder / "new").read_bytes())
        await pass_time()
        watching.cancel()

    asyncio.run(change())
    assert caplog.messages == [
        f"the old public keys stay in use: {file}: must be the PEM file of an RSA public key",
        "read the public keys again: new, old",
    ]
