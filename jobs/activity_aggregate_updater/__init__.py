"""Counts what learners have completed: contents, units, courses.

``events`` reads what comes in, ``relations`` says what a course consists of, ``rules`` decide: these are pure.
``relation_cache`` and ``store`` fetch and write, ``job`` puts all together.
"""
