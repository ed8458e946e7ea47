"""The doctor: finds what is wrong in the rows of all learners, and puts it right by events that the jobs understand.

* ``checks``: the rows of a learner in, findings out. It calls the jobs' own rules. Pure.
* ``findings``: what a finding is, and the file of findings, one JSON object a line.
* ``charts``: reads the rows of many learners at a time. ``scan``: walks through the tables, and can be continued.
* ``repair``: sends events for findings, each of them once. ``journal``: what was sent, so that it is not sent twice.
* ``backfill``: fills ``aggregates`` of rows that have only ``agg``.
* ``preflight``: whether everything is ready for a switch-over, ``preflight_topics``: whether Kafka is. Both are pure.
  ``preflight_reads`` and ``preflight_kafka`` ask the servers.
* ``commands``: ``check``, ``repair``, ``backfill`` and ``preflight`` on the command line.
"""
