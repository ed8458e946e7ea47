"""Job requests whose files are uploaded to a real S3 server."""

from collections.abc import Iterator
from io import BytesIO
from zipfile import ZipFile

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.support.reports import Course, JobRequests, Reports, read_csv


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_a_request_and_a_command(
    course: Course, reports: Reports, job_requests: JobRequests, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="id",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket="reports")
    for name, value in {
        "URL": "s3://reports",
        "ENDPOINT": endpoint,
        "REGION": "us-east-1",
        "ACCESS_KEY": "id",
        "SECRET_KEY": "secret",
    }.items():
        monkeypatch.setenv(f"AGGREGATES__OBJECT_STORAGE__{name}", value)
    # Where files are before they are uploaded.
    monkeypatch.setenv("AGGREGATES__OUTPUT_FOLDER", str(reports.folder))
    course.create("quiz")
    asha = course.learner("asha")
    request_id = job_requests.submit({"batchId": course.batch_id})
    job_requests.run()
    row = job_requests[request_id]
    (url,) = row["download_urls"]
    assert url.startswith(f"{endpoint}/reports/progress-exhaust/{request_id}/{course.batch_id}_progress_")
    content = client.get_object(Bucket="reports", Key=url.split("/", 4)[4])["Body"].read()
    assert row["processed_batches"][0]["fileSize"] == len(content)
    with ZipFile(BytesIO(content)) as archive:
        assert [line["User UUID"] for line in read_csv(archive.read(archive.namelist()[0]))] == [asha]
    assert [file for file in reports.folder.rglob("*") if file.is_file()] == []
    assert reports.run("progress", "--batch", course.batch_id, "--upload") == 0
    stored = {entry["Key"] for entry in client.list_objects(Bucket="reports")["Contents"]}
    assert len(stored) == 2
