"""The read APIs of learners' aggregates: content state, group aggregates, assessments."""
