"""Issues user tokens for the local world, signed with a key pair in its state folder.

    python -m local.tokens u-1                    a token of user u-1, for the header x-authenticated-user-token
    python -m local.tokens u-child --parent u-1   a token of a managed user, for x-authenticated-for

The config.yaml of the services names the folder of the public key.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from local.config import load_config

KEY_ID = "local"
_LIFE_SECONDS = 24 * 60 * 60


class TokenIssuer:
    """Signs tokens with the key in a folder. Creates the folder and the key pair if they are missing."""

    def __init__(self, folder: Path, key_id: str = KEY_ID) -> None:
        """The private key is ``<folder>/private/<key_id>``, the public key ``<folder>/public/<key_id>``."""
        self.public_keys_folder = folder / "public"
        self._key_id = key_id
        file = folder / "private" / key_id
        if not file.exists():
            _make_keys(file, self.public_keys_folder / key_id)
        self._key = file.read_bytes()

    def token(
        self, user_id: str, *, parent: str | None = None, life_seconds: int = _LIFE_SECONDS, **claims: Any
    ) -> str:
        """A signed token of a user, who is a managed user if ``parent`` is given. ``claims`` replace the usual ones."""
        payload = {"sub": user_id, "exp": int(time.time()) + life_seconds, **({"parentId": parent} if parent else {})}
        return jwt.encode(payload | claims, self._key, algorithm="RS256", headers={"kid": self._key_id})


def _make_keys(private: Path, public: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    private.parent.mkdir(parents=True, exist_ok=True)
    public.parent.mkdir(parents=True, exist_ok=True)
    private.touch(mode=0o600)
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def main(arguments: list[str]) -> None:
    """Prints a token of the user named by the arguments."""
    parser = argparse.ArgumentParser(prog="python -m local.tokens", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("user", help="the user id")
    parser.add_argument("--parent", help="the user who manages this user")
    options = parser.parse_args(arguments)
    issuer = TokenIssuer(load_config().state_folder / "token-keys")
    print(issuer.token(options.user, parent=options.parent))


if __name__ == "__main__":
    main(sys.argv[1:])
