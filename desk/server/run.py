"""Runs the desk's server."""

import logging.config
import sys
from typing import Any

import uvicorn

from desk.config import DeskConfig
from desk.server.application import create_application

_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
        "audit": {"format": "%(message)s"},
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line"},
        # Apart from everything else, so that it can be kept apart.
        "audit": {"class": "desk.server.audit.AuditHandler", "formatter": "audit", "stream": "ext://sys.stdout"},
    },
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "loggers": {
        "desk.audit": {"level": "INFO", "handlers": ["audit"], "propagate": False},
        "uvicorn.error": {"level": "INFO"},
    },
}


def serve(config: DeskConfig) -> None:
    """Serves until SIGTERM or Ctrl-C. Ends the program with code 2 if nobody could look, 1 if the port is taken."""
    server = config.server
    if not server.has_access:
        print("nobody could look: set server.viewer_token_file or server.user_header", file=sys.stderr)
        sys.exit(2)
    logging.config.dictConfig(_LOGGING)
    uvicorn.run(
        create_application(config),
        host=server.host,
        port=server.port,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # The desk itself says which proxies it believes.
        proxy_headers=False,
        timeout_graceful_shutdown=10,
    )
