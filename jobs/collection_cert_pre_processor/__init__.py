"""Decides who has earned a certificate of a course, and asks for it to be generated.

``events`` and ``answers`` read what comes in, ``templates`` and ``criteria`` what a batch demands, ``rules`` decide,
``message`` writes what goes out. All of these are pure.
"""
