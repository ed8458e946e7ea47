"""The private key of Kafka's client certificate stays in its file: it does not travel with the job."""

from pathlib import Path

from jobs import JOBS
from local.prerequisites import find_java
from tests.support.certificates import make_certificate
from tests.support.job_graph import serialized_jobs


def test_no_job_carries_the_key_of_kafkas_client_certificate(tmp_path: Path) -> None:
    key, certificate = make_certificate()
    key_file, certificate_file = tmp_path / "client-key.pem", tmp_path / "client-certificate.pem"
    key_file.write_bytes(key)
    certificate_file.write_bytes(certificate)
    environment = {
        "AGGREGATES__KAFKA__BOOTSTRAP_SERVERS": "kafka-1:9092",
        "AGGREGATES__KAFKA__ENV": "dev",
        "AGGREGATES__KAFKA__SECURITY_PROTOCOL": "SSL",
        "AGGREGATES__KAFKA__TLS__CERTIFICATE_FILE": str(certificate_file),
        "AGGREGATES__KAFKA__TLS__KEY_FILE": str(key_file),
        "AGGREGATES__CASSANDRA__CONTACT_POINTS": "[127.0.0.1]",
        "AGGREGATES__REDIS__HOST": "127.0.0.1",
    }
    for module, graph in serialized_jobs(find_java(), list(JOBS.values()), environment, tmp_path).items():
        for line in key.splitlines():
            assert line not in graph, module
        # Where it would be: the properties of source and sink are in the graph as they are.
        assert graph.count(f"${{files:{tmp_path}:client-key.pem}}".encode()) >= 2, module
