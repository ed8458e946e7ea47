"""Job requests whose files are uploaded to a real S3 server."""

from collections.abc import Iterator
from io import BytesIO
from zipfile import ZipFile

import pytest

from tests.support.object_storage import CREDENTIALS, bucket_of, s3_server
from tests.support.reports import Course, JobRequests, Reports, read_csv


@pytest.fixture
def endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


def test_a_request_and_a_command(
    course: Course, reports: Reports, job_requests: JobRequests, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = bucket_of(endpoint, "reports")
    for name, value in {"url": "s3://reports", "endpoint": endpoint, **CREDENTIALS}.items():
        monkeypatch.setenv(f"AGGREGATES__OBJECT_STORAGE__{name.upper()}", value)
    # Where files are before they are uploaded.
    monkeypatch.setenv("AGGREGATES__OUTPUT_FOLDER", str(reports.folder))
    course.create("quiz")
    asha = course.learner("asha")
    request_id = job_requests.submit({"batchId": course.batch_id})
    job_requests.run()
    row = job_requests[request_id]
    (url,) = row["download_urls"]
    assert url.startswith(f"{endpoint}/reports/progress-exhaust/{request_id}/{course.batch_id}_progress_")
    content = bucket.Object(url.split("/", 4)[4]).get()["Body"].read()
    assert row["processed_batches"][0]["fileSize"] == len(content)
    with ZipFile(BytesIO(content)) as archive:
        assert [line["User UUID"] for line in read_csv(archive.read(archive.namelist()[0]))] == [asha]
    assert [file for file in reports.folder.rglob("*") if file.is_file()] == []
    assert reports.run("progress", "--batch", course.batch_id, "--upload") == 0
    assert len(list(bucket.objects.all())) == 2
