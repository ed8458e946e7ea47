"""How a report is protected: the zip, its password, and the encrypted files of Sunbird's security levels.

The levels are those of the tenant preference ``dataSecurityPolicy``. What each does to the file is what Sunbird's
exhaust jobs do (``DataSecurityUtil`` and ``EncryptFileUtil`` in Sunbird-Lern/data-products), with two differences: a
password encrypts the zip with AES-256, where Sunbird uses the old ZIP cipher that is broken, and a level that needs a
key refuses a request without one, where Sunbird would deliver the plain file.
"""

import base64
import binascii
import hashlib
import os
import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import pyzipper
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from common.domain.faults import WorldFault
from reports.model import ReportError
from reports.threads import Check

_CHUNK = 1024 * 1024
_BLOCK = 16
"""Bytes of an AES block."""
_ROUNDS = 3
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class Level(StrEnum):
    """The security levels, the weakest first."""

    PLAIN = "PLAIN_DATASET"
    PASSWORD = "PASSWORD_PROTECTED_DATASET"
    TEXT_KEY = "TEXT_KEY_ENCRYPTED_DATASET"
    PUBLIC_KEY = "PUBLIC_KEY_ENCRYPTED_DATASET"


@dataclass(frozen=True, slots=True)
class Protection:
    """The level of one report with what it needs. Raises ReportError without that."""

    level: Level = Level.PLAIN
    password: str | None = field(default=None, repr=False)
    public_key: RSAPublicKey | None = field(default=None, repr=False)
    is_zipped: bool = True

    def __post_init__(self) -> None:
        """Checks that the level has its key."""
        if self.level in (Level.PASSWORD, Level.TEXT_KEY) and not self.password:
            raise ReportError(f"The security level {self.level} needs an encryption key, which the request lacks")
        if self.level == Level.PUBLIC_KEY and self.public_key is None:
            raise ReportError(f"The security level {self.level} needs a public key, which the organisation lacks")


def decrypt_key(encrypted: str, sunbird_encryption_key: str, aes_key: str) -> str:
    """The requester's password out of the column ``encryption_key``.

    Sunbird's services encrypt a text three times over with AES in ECB mode, each time with ``sunbird_encryption_key``
    put before it, and as base64. A client that writes past them stores the password as it is, and that is used as it
    is, too. Raises ReportError for what was encrypted with another key.
    """
    # Encoders of old break lines.
    text = "".join(encrypted.split())
    shortest = _encrypted_length(len(sunbird_encryption_key.encode()))
    if not _BASE64.fullmatch(text) or len(text) % 4 or len(text) < shortest:
        return encrypted
    try:
        for _ in range(_ROUNDS):
            plain = _decrypt_ecb(base64.b64decode("".join(text.split()), validate=True), aes_key)
            if not plain.startswith(sunbird_encryption_key):
                raise ValueError("it begins with another key")
            text = plain[len(sunbird_encryption_key) :]
    except (ValueError, binascii.Error) as error:
        raise ReportError(f"The encryption key of the request cannot be decrypted: {error}") from error
    return text


def _encrypted_length(salt: int) -> int:
    """The characters of the shortest encrypted text, whose key is ``salt`` bytes long."""
    length = 0
    for _ in range(_ROUNDS):
        blocks = (salt + length) // _BLOCK + 1
        length = -(-blocks * _BLOCK // 3) * 4
    return length


def _decrypt_ecb(data: bytes, aes_key: str) -> str:
    decryptor = Cipher(algorithms.AES(aes_key.encode()), modes.ECB()).decryptor()
    unpadder = PKCS7(_BLOCK * 8).unpadder()
    padded = decryptor.update(data) + decryptor.finalize()
    return (unpadder.update(padded) + unpadder.finalize()).decode()


def read_public_key(pem: bytes) -> RSAPublicKey:
    """Raises ReportError for what is no RSA key."""
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise ReportError(f"The public key of the organisation cannot be read: {error}") from error
    if not isinstance(key, RSAPublicKey):
        raise ReportError("The public key of the organisation is no RSA key")
    return key


def protect(csv_file: Path, protection: Protection, check: Check) -> Path:
    """The protected file, beside ``csv_file``. For a thread: raises what ``check`` raises.

    Raises WorldFault if a file that is to be encrypted cannot be written. A plain file that cannot be zipped stays CSV.
    """
    if protection.level in (Level.TEXT_KEY, Level.PUBLIC_KEY):
        try:
            encrypt_file(csv_file, protection, check)
        except OSError as error:
            raise WorldFault(f"the report cannot be encrypted: {error}") from error
    if not protection.is_zipped:
        return csv_file
    target = csv_file.with_suffix(".zip")
    try:
        write_zip(csv_file, target, protection.password if protection.level == Level.PASSWORD else None, check)
    except OSError as error:
        # What is to be encrypted must not go out in plain text.
        if protection.level != Level.PLAIN:
            raise WorldFault(f"the report cannot be zipped: {error}") from error
        target.unlink(missing_ok=True)
        return csv_file
    return target


def write_zip(source: Path, target: Path, password: str | None, check: Check) -> None:
    """``source`` as the one member of a zip, encrypted with AES-256 if there is a password. Raises OSError."""
    encryption = pyzipper.WZ_AES if password else None
    with pyzipper.AESZipFile(target, "w", compression=pyzipper.ZIP_DEFLATED, encryption=encryption) as archive:
        if password:
            archive.setpassword(password.encode())
        with source.open("rb") as content, archive.open(source.name, "w", force_zip64=True) as member:
            while chunk := content.read(_CHUNK):
                check()
                member.write(chunk)


def encrypt_file(file: Path, protection: Protection, check: Check) -> None:
    """Puts the encrypted file in the place of the plain one. Raises OSError.

    Its first line is the level, the second the file's own key in base64, then follows the content under that key. The
    key is encrypted with the requester's password or with the organisation's public key. The zero vector is Sunbird's;
    it gives nothing away, because no key is used twice.
    """
    file_key = os.urandom(32)
    encrypted = file.with_suffix(".encrypted")
    with file.open("rb") as content, encrypted.open("wb") as target:
        target.write(f"{protection.level}\n".encode())
        target.write(base64.b64encode(_encrypt_key(file_key, protection)) + b"\n")
        encryptor = Cipher(algorithms.AES(file_key), modes.CBC(bytes(_BLOCK))).encryptor()
        padder = PKCS7(_BLOCK * 8).padder()
        while chunk := content.read(_CHUNK):
            check()
            target.write(encryptor.update(padder.update(chunk)))
        target.write(encryptor.update(padder.finalize()) + encryptor.finalize())
    encrypted.replace(file)


def _encrypt_key(file_key: bytes, protection: Protection) -> bytes:
    if protection.public_key is not None:
        return protection.public_key.encrypt(file_key, rsa_padding.PKCS1v15())
    # The hex digits of the hash, in capitals, are the 32 bytes of the key.
    password_key = hashlib.md5((protection.password or "").encode(), usedforsecurity=False).hexdigest().upper().encode()
    encryptor = Cipher(algorithms.AES(password_key), modes.CBC(bytes(_BLOCK))).encryptor()
    padder = PKCS7(_BLOCK * 8).padder()
    return encryptor.update(padder.update(file_key) + padder.finalize()) + encryptor.finalize()
