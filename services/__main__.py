"""Serves the read APIs: ``python -m services [--workers N] [--config FILE] [--print-config]``."""

import argparse
import asyncio
import logging.config
import os
import sys
import tempfile
from functools import partial
from socket import socket

import uvicorn
from uvicorn.supervisors import Multiprocess

from common.config.loader import ConfigError, parse_arguments
from common.domain.faults import TaskFault, WorldFault
from services.application import create_application
from services.config import ServicesConfig
from services.metrics import MULTIPROCESS_FOLDER
from services.protocol import BoundedHttpProtocol
from services.request_log import logging_config
from services.servers import check_logins
from services.tokens import Tokens

_WORKER_START_SECONDS = 60
"""A worker answers uvicorn's pings once it has imported everything. With uvicorn's 5 s a busy machine kills each worker
before it has started, and starts the next one, for ever. A worker that has ended is noticed at once all the same."""


def main() -> None:
    """Reads configuration and keys, logs in to the servers once, and serves until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default %(default)s)")
    options, _ = parser.parse_known_args()
    if options.workers < 1:
        sys.exit("--workers must be at least 1")
    config = parse_arguments(ServicesConfig, sys.argv[1:], parents=[parser])
    logging.config.dictConfig(logging_config(config.server.access_log))
    try:
        Tokens.of(config.tokens)
    except ConfigError as error:
        sys.exit(str(error))
    try:
        asyncio.run(check_logins(config))
    except (TaskFault, WorldFault) as fault:
        sys.exit(f"the services cannot start: {fault}")
    serve(config, options.workers)


def serve(config: ServicesConfig, workers: int) -> None:
    """Serves both ports with so many processes. Ends the program with code 1 if a port is taken."""
    tls = config.server.tls
    server_config = uvicorn.Config(
        partial(create_application, config),
        factory=True,
        workers=workers,
        host=config.server.host,
        port=config.server.port,
        loop="uvloop",
        http=BoundedHttpProtocol,
        ws="none",
        log_config=logging_config(config.server.access_log),
        access_log=False,
        server_header=False,
        ssl_certfile=tls.certificate_file,
        ssl_keyfile=tls.key_file,
        ssl_keyfile_password=tls.key_password.get_secret_value() if tls.key_password else None,
        timeout_graceful_shutdown=config.server.shutdown_timeout_seconds,
        timeout_worker_healthcheck=_WORKER_START_SECONDS,
    )
    sockets = [server_config.bind_socket(), _bind(config.server.internal_host, config.server.internal_port)]
    if workers == 1:
        uvicorn.Server(server_config).run(sockets)
        return
    with tempfile.TemporaryDirectory(prefix="services-metrics-") as folder:
        os.environ[MULTIPROCESS_FOLDER] = folder
        Multiprocess(server_config, sockets).run()


def _bind(host: str, port: int) -> socket:
    return uvicorn.Config("", host=host, port=port, log_config=None).bind_socket()


if __name__ == "__main__":
    main()
