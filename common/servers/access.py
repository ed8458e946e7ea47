"""A first login to each server, before any work begins."""

import logging
from collections.abc import Awaitable

from common.domain.faults import WorldFault

logger = logging.getLogger(__name__)


async def verify_access(login: Awaitable[None]) -> None:
    """Raises TaskFault if ``login`` is refused. What cannot be checked from here is only logged as a warning.

    A server that does not answer may be out of reach or start later. A PEM file that is missing here may be on the
    workers' machines.
    """
    try:
        await login
    except (WorldFault, OSError) as fault:
        logger.warning("cannot be checked from here: %s", fault)
