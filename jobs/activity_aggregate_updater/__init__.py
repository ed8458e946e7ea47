"""Counts what learners have completed: contents, units, courses.

``events`` reads what comes in, ``relations`` what a course consists of, ``rules`` decide. All of these are pure.
"""
