"""Failures that are not caused by an event; those are :class:`common.domain.events.BadEvent`.

Each class stands for one decision of the caller: apply the batch again, or end the task.
"""


class WorldFault(Exception):
    """A server is down, slow or overloaded. The same call may succeed later, so the caller's batch is applied again.

    The text names the server and its error. It never contains a secret.
    """


class TaskFault(Exception):
    """The task cannot work: a wrong password, a missing table, a server that was down for too long.

    The task must fail visibly, so that Flink restarts it from the last checkpoint.
    """
