"""Serves the read APIs: ``python -m services [--config FILE] [--print-config]``."""

import asyncio
import logging
import sys
from pathlib import Path

import uvicorn

from common.config.loader import ConfigError, parse_arguments
from common.domain.faults import TaskFault, WorldFault
from services.application import check_logins, create_application
from services.config import ServicesConfig
from services.tokens import Tokens, load_keys


def main() -> None:
    """Reads configuration and keys, logs in to the servers once, and serves until SIGTERM or Ctrl-C."""
    config = parse_arguments(ServicesConfig, sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        keys = load_keys(Path(config.tokens.public_keys_folder))
    except ConfigError as error:
        sys.exit(str(error))
    try:
        asyncio.run(check_logins(config))
    except (TaskFault, WorldFault) as fault:
        sys.exit(f"the services cannot start: {fault}")
    uvicorn.run(
        create_application(config, Tokens(keys, config.tokens.issuer, config.tokens.leeway_seconds)),
        host=config.server.host,
        port=config.server.port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=config.server.shutdown_timeout_seconds,
    )


if __name__ == "__main__":
    main()
