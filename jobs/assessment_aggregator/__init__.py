"""Learners' attempts: stores them and keeps the best scores of each learner up to date.

The rules, as ``docs/jobs.md`` states them, and where each one is:

* A1 The event: :func:`common.domain.attempts.decode`
* A2 The content belongs to the course: :func:`rules.check_content`
* A3 Unique questions: :func:`common.domain.attempts.decode`
* A4 Number of questions: :func:`answers.total_questions`, :func:`rules.check_number_of_questions`
* A5 Totals: :func:`common.domain.attempts.decode`, :func:`rules.grand_total`
* A6 The stored attempt: :func:`rules.decide`
* A7 Questions: :func:`common.domain.questions.encode`
* A8 Aggregates: :func:`rules.decide`, :func:`many_attempts.unread_attempts`
* A9 Certificate request: :func:`rules.decide`
"""
