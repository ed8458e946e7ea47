"""The support desk: why a learner has no certificate, what else is wrong, and how to put it right.

The desk decides nothing itself. It reads what the jobs read, calls the jobs' own rules, and shows each step with its
evidence. It repairs only by sending events that the jobs understand.

* ``records``: what the desk reads of a learner in a batch, as plain values. Pure.
* ``store`` reads Cassandra, ``sources`` the caches and APIs, ``topic_search`` Kafka, ``flink`` Flink's REST API.
  ``reader`` puts a learner's record together from them.
* ``explanation``: a record in, steps out. ``sentences``: what the steps say, in one place so that it can be translated.
  Both pure.
* ``figures``: the figures of a batch. Pure.
* ``remedies``: the events that put a learner right. Pure. ``sender`` sends them.
* ``cli``: the commands. ``server``: the pages and the API. ``doctor``: check, repair, back-fill, preflight.

The desk imports ``common`` and the pure modules of the jobs. Nothing imports the desk.
"""
