"""Uploads to a real S3 server; addresses at all three providers."""

import asyncio
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from moto.server import ThreadedMotoServer

from common.domain.faults import TaskFault, WorldFault
from reports.config import ObjectStorageConfig
from reports.object_storage import ObjectStorage

PATH = Path("progress-exhaust/A1/b_progress_20240514.zip")
BUCKET = "reports"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> "boto3.resources.base.ServiceResource":
    """Read back with another client than the one that writes."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    resource = boto3.resource(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="id",
        aws_secret_access_key="secret",
    )
    bucket = resource.create_bucket(Bucket=BUCKET)
    bucket.objects.delete()
    return bucket


def config(server: str, **fields: object) -> ObjectStorageConfig:
    values = {
        "url": f"s3://{BUCKET}/exhaust",
        "endpoint": server,
        "region": "us-east-1",
        "access_key": "id",
        "secret_key": "secret",
        "timeout_seconds": 5,
    }
    return ObjectStorageConfig.model_validate({**values, **fields}, strict=False)


def place(storage: ObjectStorage, folder: Path, content: bytes, path: Path = PATH) -> str:
    file = folder / "file"
    file.write_bytes(content)
    url = asyncio.run(storage.place(file, path))
    assert not file.exists()
    return url


def keys(bucket: "boto3.resources.base.ServiceResource") -> list[str]:
    return sorted(entry.key for entry in bucket.objects.all())


class TestPlace:
    def test_below_the_prefix(
        self, endpoint: str, bucket: "boto3.resources.base.ServiceResource", tmp_path: Path
    ) -> None:
        url = place(ObjectStorage(config(endpoint)), tmp_path, b"content")
        # Sunbird's report service takes what follows the fourth slash for the key that it signs.
        assert url == f"{endpoint}/{BUCKET}/exhaust/{PATH.as_posix()}"
        assert url.split("/", 4)[4] == keys(bucket)[0]
        assert bucket.Object(keys(bucket)[0]).get()["Body"].read() == b"content"

    def test_again_at_the_same_path(
        self, endpoint: str, bucket: "boto3.resources.base.ServiceResource", tmp_path: Path
    ) -> None:
        storage = ObjectStorage(config(endpoint))
        place(storage, tmp_path, b"first")
        place(storage, tmp_path, b"second")
        (key,) = keys(bucket)
        assert bucket.Object(key).get()["Body"].read() == b"second"

    def test_a_file_of_several_parts(
        self, endpoint: str, bucket: "boto3.resources.base.ServiceResource", tmp_path: Path
    ) -> None:
        content = bytes(range(256)) * 4096 * 12  # 12 MiB, in parts of 5
        place(ObjectStorage(config(endpoint)), tmp_path, content)
        assert bucket.Object(keys(bucket)[0]).get()["Body"].read() == content

    @pytest.mark.parametrize(("kind", "is_open"), [("signed_url", True), ("url", False)])
    def test_urls(
        self,
        endpoint: str,
        bucket: "boto3.resources.base.ServiceResource",
        tmp_path: Path,
        kind: str,
        is_open: bool,
    ) -> None:
        url = place(ObjectStorage(config(endpoint, download_urls=kind)), tmp_path, b"content")
        assert ("X-Amz-Signature=" in url) is is_open
        if is_open:
            with urllib.request.urlopen(url) as answer:
                assert answer.read() == b"content"

    def test_paths(self, endpoint: str, bucket: "boto3.resources.base.ServiceResource", tmp_path: Path) -> None:
        assert place(ObjectStorage(config(endpoint, download_urls="path")), tmp_path, b"x") == PATH.as_posix()
        assert keys(bucket) == [f"exhaust/{PATH.as_posix()}"]


def test_leftovers_of_a_killed_run(
    endpoint: str, bucket: "boto3.resources.base.ServiceResource", tmp_path: Path
) -> None:
    storage = ObjectStorage(config(endpoint))
    others = ["b_response_20240514.zip", "c_progress_20240513.zip", "b_progress_x_progress_20240513.zip"]
    for name in [PATH.name, "b_progress_20240513.zip", "b_progress_20240514.csv", *others]:
        place(storage, tmp_path, b"x", PATH.with_name(name))
    asyncio.run(storage.delete_leftovers(PATH))
    assert {Path(key).name for key in keys(bucket)} == {PATH.name, *others}
    asyncio.run(storage.delete_leftovers(PATH, with_itself=True))
    assert {Path(key).name for key in keys(bucket)} == set(others)


class TestFaults:
    def test_a_bucket_that_is_not_there(self, endpoint: str, bucket: object, tmp_path: Path) -> None:
        with pytest.raises(TaskFault, match="object storage s3://nowhere"):
            place(ObjectStorage(config(endpoint, url="s3://nowhere")), tmp_path, b"x")

    def test_a_server_that_is_down(self, tmp_path: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with pytest.raises(WorldFault, match="object storage s3://reports"):
            place(ObjectStorage(config(f"http://127.0.0.1:{port}", timeout_seconds=1)), tmp_path, b"x")


class TestAddresses:
    """Signing asks nobody, so it shows without the provider what a download URL will be."""

    def url(self, **fields: object) -> str:
        storage = ObjectStorage(config("", **{"endpoint": None, **fields}))
        return asyncio.run(storage._download_url(PATH.as_posix()))

    def test_on_amazon_s3(self) -> None:
        url = self.url(url="s3://exhaust/reports", region="ap-south-1")
        assert url == f"https://s3.ap-south-1.amazonaws.com/exhaust/reports/{PATH.as_posix()}"

    def test_on_azure_blob_storage(self) -> None:
        url = self.url(url="az://exhaust/reports", access_key="sunbird", secret_key="c2VjcmV0")
        assert url == f"https://sunbird.blob.core.windows.net/exhaust/reports/{PATH.as_posix()}"

    def test_on_google_cloud_storage(self, tmp_path: Path) -> None:
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        account = {"type": "service_account", "client_email": "reports@x", "private_key_id": "1", "private_key": pem}
        file = tmp_path / "account.json"
        file.write_text(json.dumps(account))
        url = self.url(url="gs://exhaust/reports", service_account_file=str(file))
        assert url == f"https://storage.googleapis.com/exhaust/reports/{PATH.as_posix()}"
