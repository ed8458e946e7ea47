"""Several workers, HTTPS, and keys that change while requests come."""

import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from cassandra.cluster import Session

from local.http_services import HttpServices
from local.tokens import TokenIssuer
from local.world import World
from tests.support.certificates import make_certificate
from tests.support.read_apis import READ, STATE, Learner, another, start
from tests.support.waiting import TIMEOUT_SECONDS, wait_until


@pytest.fixture(scope="module")
def groups() -> Iterator[HttpServices]:
    with HttpServices() as groups:
        yield groups


@pytest.fixture
def learner(cassandra_session: Session, unique: str) -> Learner:
    return Learner(cassandra_session, unique)


def test_workers_share_the_ports_and_their_metrics_and_one_that_dies_is_replaced(
    world: World, groups: HttpServices, learner: Learner, tmp_path: Path
) -> None:
    services = start(world, tmp_path, groups, "none", "--workers", "2")
    parent = psutil.Process(services.process.pid)

    def workers() -> set[int]:
        return {child.pid for child in parent.children() if is_worker(child)}

    def is_worker(child: psutil.Process) -> bool:
        """Not a process that multiprocessing has for itself, and not one that has ended."""
        try:
            return "spawn_main" in " ".join(child.cmdline())
        except psutil.NoSuchProcess:
            return False

    def answer() -> None:
        # A connection of its own, which either worker may accept.
        headers = {"x-authenticated-user-token": services.issuer.token(learner.user_id)}
        response = httpx.post(
            f"{services.url}{READ}", json={"request": learner.viewer_ids}, headers=headers, verify=False
        )
        assert response.status_code == 200

    def counted() -> float:
        metrics = httpx.get(f"{services.internal_url}/metrics", verify=False).text
        found = re.search(rf'request_duration_seconds_count\{{path="{READ}",status="200"\}} ([0-9.]+)', metrics)
        assert "aggregates_requests_in_flight_limit" in metrics
        return float(found[1]) if found else 0

    try:
        wait_until(lambda: len(workers()) == 2, "two workers run")
        wait_until(lambda: services.log.count("Application startup complete") == 2, "both have started")
        for number in range(1, 31):
            answer()
            # Whichever worker is scraped, it knows all requests.
            assert counted() == number
        first = workers()
        psutil.Process(min(first)).kill()
        wait_until(lambda: len(workers()) == 2 and workers() != first, "the killed worker is replaced")
        wait_until(lambda: services.log.count("Application startup complete") == 3, "it has started")
        for _ in range(10):
            answer()
        assert counted() == 40
        last = workers()
    finally:
        services.process.terminate()
        assert services.process.wait(TIMEOUT_SECONDS) in (0, -signal.SIGTERM)
    assert not any(map(psutil.pid_exists, last))


def test_both_ports_speak_https(world: World, groups: HttpServices, learner: Learner, tmp_path: Path) -> None:
    key, certificate = make_certificate("secret-1")
    certificate_file, key_file = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate_file.write_bytes(certificate)
    key_file.write_bytes(key)
    variables = {
        "AGGREGATES__SERVER__TLS__CERTIFICATE_FILE": str(certificate_file),
        "AGGREGATES__SERVER__TLS__KEY_FILE": str(key_file),
        "AGGREGATES__SERVER__TLS__KEY_PASSWORD": "secret-1",
    }
    with another(world, tmp_path, groups, "none", **variables) as services:
        assert services.url.startswith("https://")
        assert services.post(STATE, learner.ids, learner.user_id).status_code == 200
        assert services.internal.get("/health").status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(services.url.replace("https", "http"))
    assert "secret-1" not in services.log


def test_a_key_rotation_drops_no_request(world: World, groups: HttpServices, learner: Learner, tmp_path: Path) -> None:
    new = TokenIssuer(tmp_path / "new", "new")
    with another(world, tmp_path, groups, "none") as services:
        folder = services.issuer.public_keys_folder
        old_token, new_token = services.issuer.token(learner.user_id), new.token(learner.user_id)

        def status(token: str) -> int:
            headers = {"x-authenticated-user-token": token}
            return services.client.post(STATE, json={"request": learner.ids}, headers=headers).status_code

        statuses: list[int] = []
        is_over = threading.Event()

        def keep_asking() -> None:
            with httpx.Client(base_url=services.url) as client:
                while not is_over.is_set():
                    response = client.post(
                        STATE, json={"request": learner.ids}, headers={"x-authenticated-user-token": old_token}
                    )
                    statuses.append(response.status_code)

        asking = threading.Thread(target=keep_asking)
        asking.start()
        try:
            wait_until(lambda: bool(statuses), "requests come")
            assert status(new_token) == 401
            (folder / "new.pem").write_bytes((new.public_keys_folder / "new").read_bytes())
            wait_until(lambda: status(new_token) == 200, "the new key is read")
            count = len(statuses)
            wait_until(lambda: len(statuses) > count + 1, "requests still come")
        finally:
            is_over.set()
            asking.join()
        assert set(statuses) == {200}
        (folder / "local").unlink()
        wait_until(lambda: status(old_token) == 401, "the old key is forgotten")
        assert status(new_token) == 200
