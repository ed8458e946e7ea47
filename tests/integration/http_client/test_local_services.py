"""The HTTP services of the local world on their own."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from local.config import REPOSITORY
from local.http_services import CONTENT, SEARCH, USER, HttpServices, Switch
from tests.support.api_client import (
    CONTENT_READ,
    USER_READ,
)


class TestServices:
    def test_a_port_that_is_taken_is_refused(self, services: HttpServices) -> None:
        port = int(services.base_url.rpartition(":")[2])
        with pytest.raises(OSError, match="address already in use"), HttpServices(port):
            pass

    def test_an_unknown_route_is_refused(self, services: HttpServices) -> None:
        with pytest.raises(ValueError, match="unknown route 'users': choose from user, content, search"):
            services.switch("users", Switch())

    @pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
    def test_run_as_a_program_of_their_own(self, end: signal.Signals) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.http_services"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            self._put(f"{url}/admin/users", {"u-2": {"firstName": "Ravi"}})
            self._put(f"{url}/admin/contents", {"do_2": {"name": "Physics"}})
            self._put(f"{url}/admin/switches", {USER: {"status": 500, "times": 1}, SEARCH: {"delay_ms": 1}})
            with pytest.raises(urllib.error.HTTPError, match="500"):
                self._get(f"{url}{USER_READ}u-2")
            assert self._get(f"{url}{USER_READ}u-2")["result"]["response"]["firstName"] == "Ravi"
            assert self._get(f"{url}{CONTENT_READ}do_2")["result"]["content"]["name"] == "Physics"
            assert self._get(f"{url}/admin/requests") == {USER: 2, CONTENT: 1}
            self._put(f"{url}/admin/refused", {"for_ms": 300})
            with pytest.raises(urllib.error.URLError, match="Connection refused"):
                self._get(f"{url}/admin/requests")
            deadline = time.monotonic() + 10
            while True:
                try:
                    assert self._get(f"{url}/admin/requests") == {USER: 2, CONTENT: 1}
                    break
                except urllib.error.URLError:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            process.send_signal(end)
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait()

    def _put(self, url: str, body: Any) -> None:
        request = urllib.request.Request(url, json.dumps(body).encode(), method="PUT")
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.status == 200

    def _get(self, url: str) -> Any:
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)
