"""The kinds of failure that are no fault of an event (those are :class:`common.domain.events.BadEvent`).

Each class is one decision of the caller: apply the batch again, or end the task.
"""


class WorldFault(Exception):
    """A server is down, slow or refuses: the same call may work later, so the caller's batch is applied again.

    The text names the server and what it said; it never holds a secret.
    """


class TaskFault(Exception):
    """The task cannot do its work: a wrong password, a missing table, a world that stayed down too long.

    It must fail visibly, so that Flink restarts it from the last checkpoint. No event is to blame for it.
    """
