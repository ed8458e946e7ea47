"""A Prometheus that scrapes the local Flink cluster, with the rules of this folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml

from deploy.prometheus import binaries
from deploy.prometheus.expressions import rule_groups
from local.config import is_free
from local.process import Launch, Server

SCRAPE_SECONDS = 2


class Client:
    """Asks a Prometheus that somebody has started."""

    def __init__(self, url: str) -> None:
        """Connects with the first query."""
        self._http = httpx.Client(base_url=url, timeout=30.0)

    def is_ready(self) -> bool:
        """Whether it answers queries."""
        try:
            return self._http.get("/-/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The series that an expression has had between two times (s since 1970), with a value every ``step`` s."""
        parameters = {"query": expression, "start": str(start), "end": str(end), "step": str(step)}
        series: list[dict[str, Any]] = self._get("/api/v1/query_range", parameters)["result"]
        return series

    def firing(self) -> dict[str, list[str]]:
        """The summaries of the alarms that fire now, by their name."""
        found: dict[str, list[str]] = {}
        for alert in self._get("/api/v1/alerts", {})["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], []).append(alert["annotations"]["summary"])
        return found

    def broken_rules(self) -> list[str]:
        """The rules that Prometheus could not evaluate the last time, each with its error."""
        return [
            f"{rule['name']}: {rule.get('lastError') or rule['health']}"
            for group in self._get("/api/v1/rules", {})["groups"]
            for rule in group["rules"]
            if rule["health"] != "ok"
        ]

    def _get(self, path: str, parameters: dict[str, str]) -> Any:
        response = self._http.get(path, params=parameters)
        response.raise_for_status()
        return response.json()["data"]

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()


class Prometheus(Server):
    """One process. Its data is in its state folder."""

    name = "Prometheus"
    start_timeout_seconds = 60.0
    stop_timeout_seconds = 10.0

    def __init__(self, state_folder: Path, targets: Sequence[str]) -> None:
        """`targets` are URLs that end with `/metrics`."""
        super().__init__(state_folder)
        self._targets = [urlsplit(target).netloc for target in targets]
        self._port = next(port for port in range(29_090, 29_190) if is_free(port))
        self.client = Client(f"http://127.0.0.1:{self._port}")

    def prepare(self) -> Launch:
        """Writes the configuration and the rules."""
        config = {
            "global": {
                "scrape_interval": f"{SCRAPE_SECONDS}s",
                "scrape_timeout": f"{SCRAPE_SECONDS}s",
                "evaluation_interval": f"{SCRAPE_SECONDS}s",
            },
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "flink", "static_configs": [{"targets": self._targets}]}],
        }
        (self.state_folder / "rules.yaml").write_text(yaml.safe_dump(rule_groups()))
        (self.state_folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        return Launch(
            [
                str(binaries.find("prometheus")),
                "--config.file=prometheus.yaml",
                "--storage.tsdb.path=data",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ],
            ports={"prometheus.port": self._port},
        )

    def is_ready(self) -> bool:
        """Whether it answers queries."""
        return self.client.is_ready()

    def stop(self) -> None:
        """Stops it and closes the client."""
        super().stop()
        self.client.close()
