"""Whether a server lets us in, asked before work begins."""

import logging
from collections.abc import Awaitable

from common.domain.faults import WorldFault

logger = logging.getLogger(__name__)


async def verify_access(login: Awaitable[None]) -> None:
    """Raises TaskFault if ``login`` is refused. What cannot be seen from here only makes a warning.

    That is a server which does not answer: it may be out of reach or start later. And a PEM file that is not there: of
    a job they have to be on the workers' machines only.
    """
    try:
        await login
    except (WorldFault, OSError) as fault:
        logger.warning("cannot be checked from here: %s", fault)
