"""Finished contents: counts them and keeps each learner's progress up to date.

The rules, as ``docs/jobs.md`` states them, and where each one is:

* U1 The event: :func:`events.decode`
* U2 Relations: :func:`relations.leaf_nodes`, :func:`relations.no_leaf_nodes`
* U3 Counted already?: :func:`rules.decide`
* U4 Status of a content: :func:`rules.decide`
* U5 Counts of course and units: :func:`rules.decide`, :func:`rules.contents_to_locate`
* U6 Enrolment: :class:`progress.Progress`
* U7 Messages: :func:`rules.decide`
* U8 Order of the writes: :class:`rules.Decision`
* U9 Enrolment sync: :func:`rules.decide`, :func:`progress.Progress.sync`
"""
