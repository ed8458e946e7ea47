"""A real S3 server, and how to reach it with another client than the one that writes."""

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
from moto.server import ThreadedMotoServer

CREDENTIALS = {"region": "us-east-1", "access_key": "id", "secret_key": "secret"}
"""With the names of the keys in the configuration of the reports."""


@contextmanager
def s3_server() -> Iterator[str]:
    """Its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def bucket_of(endpoint: str, name: str) -> "boto3.resources.base.ServiceResource":
    """A bucket, which is made if it is missing."""
    resource = boto3.resource(
        "s3",
        endpoint_url=endpoint,
        region_name=CREDENTIALS["region"],
        aws_access_key_id=CREDENTIALS["access_key"],
        aws_secret_access_key=CREDENTIALS["secret_key"],
    )
    return resource.create_bucket(Bucket=name)
