"""The response report on real servers: Cassandra, Redis, a content search over HTTP."""

from tests.support.reports import NOON, QUESTION, Course, Reports


class TestResponse:
    def test_question_scores_keep_decimals(self, course: Course, reports: Reports) -> None:
        """Point 9."""
        course.create()
        quiz = course.content("quiz")
        course.services.contents[quiz] = {"name": "Quiz", "status": "Live"}
        asha = course.learner("asha")
        course.attempt(asha, quiz, "a1", last_attempted_on=NOON, question=[QUESTION, {"id": "q2"}])
        first, second = reports.of("response", course.batch_id)
        assert first == {
            "Collection Id": course.course_id,
            "Collection Name": "Roses",
            "Batch Id": f"BatchId_{course.batch_id}",
            "Batch Name": "May",
            "User UUID": asha,
            "QuestionSet Id": quiz,
            "QuestionSet Title": "Quiz",
            "Attempt Id": "a1",
            "Attempted On": "2024-05-14T17:30:00.000+05:30",
            "Question Id": "q1",
            "Question Type": "mcq",
            "Question Title": QUESTION["title"],
            "Question Description": "",
            "Question Duration": "13",
            "Question Score": "1.5",
            "Question Max Score": "2.0",
            "Question Options": "[{'1':'{'text':'Rose'}'},{'2':'linebreak'}]",
            "Question Response": "[{'1':'{'text':'Rose'}'}]",
        }
        assert (second["Question Id"], second["Question Score"], second["Question Duration"]) == ("q2", "", "")

    def test_attempts_of_enrolled_learners_alone(self, course: Course, reports: Reports) -> None:
        course.create()
        asha = course.learner("asha")
        for number in range(5):  # more than a page
            course.attempt(asha, "do_unknown", f"a{number}", question=[{"id": f"q{number}"}])
        course.attempt(asha, "do_other", "empty")
        course.attempt(course.user("stranger"), "do_unknown", "a9", question=[QUESTION])
        course.learner("without-attempts")
        course.attempt(asha, "do_unknown", "saved", total_score=None, question=[QUESTION])
        rows = reports.of("response", course.batch_id)
        assert [(row["QuestionSet Id"], row["Attempt Id"], row["Question Id"]) for row in rows] == [
            ("do_other", "empty", ""),
            *(("do_unknown", f"a{number}", f"q{number}") for number in range(5)),
        ]
        assert {(row["User UUID"], row["QuestionSet Title"], row["Attempted On"]) for row in rows} == {(asha, "", "")}
