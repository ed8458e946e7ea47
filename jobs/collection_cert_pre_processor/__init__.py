"""Certificate requests: decides who has earned a certificate of a course, and asks for it to be generated.

The rules, as ``docs/jobs.md`` states them, and where each one is:

* C1 The request: :func:`events.decode`, :func:`events.narrowed`
* C2 Templates: :func:`templates.parse`, :func:`criteria.parse`
* C3 Enrolment criteria: :func:`rules.select`
* C4 Assessment criteria: :func:`rules.select`, :func:`rules.percents`, :func:`criteria.Criteria.met_by_score`
* C5 User criteria: :func:`rules.issue`, :func:`criteria.Criteria.met_by_user`, :func:`answers.user`
* C6 The course's name: :func:`answers.course_name`, :func:`answers.resolve_escapes`
* C7 The message: :func:`message.certificate`
"""
