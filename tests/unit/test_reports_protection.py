"""Sunbird's encryption: keys of requests as its services write them, files as its exhaust jobs write them."""

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from reports.model import ReportError
from reports.protection import Level, Protection, decrypt_key, protect, read_public_key

SALT, AES_KEY = "SunBird", "ThisAsISerceKtey"
TEXT = b"User UUID\r\n" + b"u-1\r\n" * 100_000


def encrypt(text: str, salt: str = SALT, line: int | None = None) -> str:
    """As the encryption service of Sunbird's user and org service does; ``line`` breaks lines as old encoders did."""
    for _ in range(3):
        padder = PKCS7(128).padder()
        padded = padder.update((salt + text).encode()) + padder.finalize()
        encryptor = Cipher(algorithms.AES(AES_KEY.encode()), modes.ECB()).encryptor()
        text = base64.b64encode(encryptor.update(padded) + encryptor.finalize()).decode()
        if line:
            text = "\n".join(text[start : start + line] for start in range(0, len(text), line))
    return text


class TestKeysOfRequests:
    @pytest.mark.parametrize("password", ["secret", "pässwörd 😀", "x" * 500, "1"])
    @pytest.mark.parametrize("line", [None, 76])
    def test_encrypted(self, password: str, line: int | None) -> None:
        assert decrypt_key(encrypt(password, line=line), SALT, AES_KEY) == password

    def test_a_text_that_openssl_has_encrypted(self) -> None:
        """Three times ``printf SunBird$text | openssl enc -aes-128-ecb -K <the key in hex> -a -A``."""
        text = "nhYIB7V60LXo3tIjYqGlf2oaV5b1sdSGE9bmVlBgFEioae9Cy3mNzwS1IY3rZhI9Ex/EtM3MNJ7ihMmKAhEVcw=="
        assert decrypt_key(text, SALT, AES_KEY) == "secret"

    @pytest.mark.parametrize("password", ["secret", "c2VjcmV0", "two words", "a" * 63, "pässwörd"])
    def test_written_past_the_services(self, password: str) -> None:
        assert decrypt_key(password, SALT, AES_KEY) == password

    def test_encrypted_with_another_key(self) -> None:
        with pytest.raises(ReportError, match="encryption key of the request cannot be decrypted") as error:
            decrypt_key(encrypt("secret", "another"), SALT, AES_KEY)
        assert "secret" not in str(error.value)


class TestFiles:
    @pytest.fixture
    def report(self, tmp_path: Path) -> Path:
        file = tmp_path / "b_progress_20240514.csv"
        file.write_bytes(TEXT)
        return file

    def unzip(self, file: Path) -> tuple[bytes, bytes, bytes]:
        """Level, encrypted key and encrypted content."""
        with zipfile.ZipFile(file) as archive:
            level, key, content = archive.read(archive.namelist()[0]).split(b"\n", 2)
        # Long enough that encrypted bytes do not hold it by chance.
        assert TEXT[:16] not in content
        return level, base64.b64decode(key), content

    def decrypt(self, key: bytes, content: bytes) -> bytes:
        decryptor = Cipher(algorithms.AES(key), modes.CBC(bytes(16))).decryptor()
        unpadder = PKCS7(128).unpadder()
        return unpadder.update(decryptor.update(content) + decryptor.finalize()) + unpadder.finalize()

    def test_under_the_password_of_the_request(self, report: Path) -> None:
        file = protect(report, Protection(Level.TEXT_KEY, "secret"), lambda: None)
        level, key, content = self.unzip(file)
        assert level == b"TEXT_KEY_ENCRYPTED_DATASET"
        password_key = hashlib.md5(b"secret").hexdigest().upper().encode()
        assert self.decrypt(self.decrypt(password_key, key), content) == TEXT

    def test_under_the_public_key_of_the_organisation(self, report: Path) -> None:
        private = rsa.generate_private_key(65537, 2048)
        pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        file = protect(report, Protection(Level.PUBLIC_KEY, public_key=read_public_key(pem)), lambda: None)
        level, key, content = self.unzip(file)
        assert level == b"PUBLIC_KEY_ENCRYPTED_DATASET"
        assert self.decrypt(private.decrypt(key, rsa_padding.PKCS1v15()), content) == TEXT

    @pytest.mark.parametrize("level", [Level.PASSWORD, Level.TEXT_KEY, Level.PUBLIC_KEY])
    def test_no_level_goes_without_its_key(self, level: Level) -> None:
        with pytest.raises(ReportError, match=f"The security level {level} needs"):
            Protection(level)

    @pytest.mark.parametrize("pem", [b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
    def test_what_is_no_public_key(self, pem: bytes) -> None:
        with pytest.raises(ReportError, match="public key of the organisation cannot be read"):
            read_public_key(pem)

    def test_a_public_key_of_another_kind(self) -> None:
        public = ec.generate_private_key(ec.SECP256R1()).public_key()
        with pytest.raises(ReportError, match="public key of the organisation is no RSA key"):
            read_public_key(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
