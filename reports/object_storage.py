"""Object storage, and finished reports in it: S3, Azure Blob Storage, Google Cloud Storage."""

import asyncio
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import obstore
from obstore.exceptions import BaseError, GenericError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

from common.domain.faults import TaskFault, WorldFault
from reports.config import ObjectStorageConfig
from reports.destination import Destination, leftovers

if TYPE_CHECKING:
    from obstore.store import AzureConfig, ClientConfig, GCSConfig, RetryConfig, S3Config

ObjectStore = S3Store | AzureStore | GCSStore
"""Of the three providers; :func:`connect` makes one."""


class ObjectStorage(Destination):
    """A bucket or container, and a prefix in it."""

    def __init__(self, config: ObjectStorageConfig) -> None:
        """Connects with the first file. Raises TaskFault for a configuration that cannot be used."""
        self._config = config
        self._name = f"object storage {config.url}"
        try:
            self._store = connect(config, config.url or "")
        except BaseError as error:
            raise TaskFault(f"{self._name} cannot be used: {error}") from error

    async def place(self, file: Path, path: Path) -> str:
        """Uploads in parts, so that the file is never in memory as a whole."""
        key = path.as_posix()
        try:
            await obstore.put_async(self._store, key, file)
            await asyncio.to_thread(file.unlink)
            return await self._download_url(key)
        except (BaseError, FileNotFoundError) as error:
            raise fault(self._name, error) from error

    async def delete_leftovers(self, path: Path, *, with_itself: bool = False) -> None:
        """As the base class says."""
        folder = path.parent.as_posix()
        try:
            listing = await obstore.list_with_delimiter_async(self._store, folder)
            names = [PurePosixPath(entry["path"]).name for entry in listing["objects"]]
            if others := leftovers(names, path.name, with_itself):
                await obstore.delete_async(self._store, [f"{folder}/{name}" for name in others])
        except (BaseError, FileNotFoundError) as error:
            raise fault(self._name, error) from error

    async def _download_url(self, key: str) -> str:
        if self._config.download_urls == "path":
            return key
        signed = await obstore.sign_async(self._store, "GET", key, timedelta(seconds=self._config.signed_url_seconds))
        return signed if self._config.download_urls == "signed_url" else urlunsplit(urlsplit(signed)._replace(query=""))


def fault(name: str, error: Exception) -> WorldFault | TaskFault:
    """What an error of the library means for the store that is called ``name`` in the text."""
    # The library adds the inside of its request to its text.
    text = str(error).partition("\n")[0]
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return TaskFault(f"{name} refuses this user: {text}")
    # A bucket that is missing is a FileNotFoundError.
    return (WorldFault if isinstance(error, GenericError) else TaskFault)(f"{name}: {text}")


def connect(config: ObjectStorageConfig, url: str) -> ObjectStore:
    """A client for what is below ``url``; only the access is that of ``config``, whose own URL may be another one.

    A key that is not configured is taken from the variables and the machine's identity that the provider defines.
    Raises the BaseError of the library.
    """
    scheme, bucket, path, *_ = urlsplit(url)
    prefix = path.strip("/") or None
    secret = config.secret_key.get_secret_value() if config.secret_key else None
    client: ClientConfig = {
        "timeout": timedelta(seconds=config.timeout_seconds),
        "allow_http": bool(config.endpoint and config.endpoint.startswith("http://")),
    }
    retry: RetryConfig = {"retry_timeout": timedelta(seconds=config.timeout_seconds)}
    if scheme == "s3":
        s3: S3Config = {}
        if config.access_key and secret:
            s3 |= {"access_key_id": config.access_key, "secret_access_key": secret}
        if config.region:
            s3["region"] = config.region
        if config.endpoint:
            s3["endpoint"] = config.endpoint
        return S3Store(bucket, prefix=prefix, config=s3, client_options=client, retry_config=retry)
    if scheme == "az":
        azure: AzureConfig = {}
        if config.access_key:
            azure["account_name"] = config.access_key
        if secret:
            azure["account_key"] = secret
        if config.endpoint:
            azure["endpoint"] = config.endpoint
        return AzureStore(bucket, prefix=prefix, config=azure, client_options=client, retry_config=retry)
    google: GCSConfig = {}
    if config.service_account_file:
        google["service_account"] = config.service_account_file
    return GCSStore(bucket, prefix=prefix, config=google, client_options=client, retry_config=retry)
