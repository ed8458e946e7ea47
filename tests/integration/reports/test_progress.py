"""The progress report on real servers: Cassandra, Redis, a content search over HTTP."""

from pathlib import Path

import pytest

from tests.support.reports import CHANNEL, HIERARCHY_KEYSPACE, Course, Reports, by_user, scored, unzip


class TestProgress:
    def test_both_columns_merged(self, course: Course, reports: Reports) -> None:
        """Points 1 to 4 and 12 of the parity checklist."""
        course.create("quiz")
        old = {"score:quiz": 7, "max_score:quiz": 10, "completedCount": 2}
        expected = {
            course.learner("new-over-old", agg=old, aggregates={"score:quiz": 7.5}): "75%",
            course.learner("new-is-lower", agg=old, aggregates={"score:quiz": 6.0}): "60%",
            course.learner("only-old", agg=old): "70%",
            course.learner("only-new", aggregates=scored(quiz=(7.5, 10))): "75%",
            course.learner("both-empty", agg={}, aggregates={}): "",
            course.learner("no-row"): "",
        }
        rows = by_user(reports.of("progress", course.batch_id))
        assert {user_id: row["quiz - Score"] for user_id, row in rows.items()} == expected
        assert {user_id: row["Total Score"] for user_id, row in rows.items()} == expected

    def test_several_contents(self, course: Course, reports: Reports) -> None:
        """Points 5 and 8: ids that are part of each other, contents that are no assessments, no maximum."""
        course.create("do_1", "do_11", "do_111")
        asha = course.learner("asha", aggregates=scored(do_1=(3, 5), do_11=(1, 1), do_111=(1, 10), do_2=(9, 9)))
        binu = course.learner("binu", aggregates={"score:do_1": 3.0})
        rows = by_user(reports.of("progress", course.batch_id))
        titles = [title for title in rows[asha] if title.endswith(" - Score")]
        assert titles == ["do_1 - Score", "do_11 - Score", "do_111 - Score"]
        assert [rows[asha][title] for title in (*titles, "Total Score")] == ["60%", "100%", "10%", "32%"]
        assert [rows[binu][title] for title in (*titles, "Total Score")] == ["", "", "", ""]

    def test_a_batch_without_any_aggregates(self, course: Course, reports: Reports) -> None:
        course.create("quiz")
        asha = course.learner("asha")
        (row,) = reports.of("progress", course.batch_id)
        assert row == {
            "Collection Id": course.course_id,
            "Collection Name": "Roses",
            "Batch Id": f"BatchId_{course.batch_id}",
            "Batch Name": "May",
            "User UUID": asha,
            "State": "Kerala",
            **dict.fromkeys(["District", "Org Name", "School Id", "School Name", "Block Name", "Cluster Name"], ""),
            **dict.fromkeys(["User Type", "User Sub Type", "Declared Board"], ""),
            "Enrolment Date": "14/05/2024",
            "Completion Date": "",
            "Certificate Status": "",
            "Progress": "0",
            "Total Score": "",
        }

    def test_who_is_listed(self, course: Course, reports: Reports) -> None:
        course.create("quiz")
        listed = {course.learner(f"learner-{number}") for number in range(11)}
        course.learner("ended", active=False)
        course.learner("never-active", active=None)
        course.learner("undated", enrolled_date=None)
        listed.add(course.learner("text-date", enrolled_date=None, enrolleddate="2024-05-14 09:12:44:310+0530"))
        listed.add(course.user("bytes", schoolname=b"\xff"))
        course.enrol(f"{course.course_id}-bytes")
        # Made by a content state update.
        phantom = course.user("phantom")
        course.insert(
            "user_enrolments",
            {
                "userid": phantom,
                "courseid": course.course_id,
                "batchid": course.batch_id,
                "lastreadcontentid": "quiz",
            },
        )
        course.enrol("without-a-hash")
        course.users.set(f"user:{course.course_id}-no-hash", "text")
        course.enrol(f"{course.course_id}-no-hash")
        course.enrol(course.user("elsewhere"), course.add_batch())
        assert by_user(reports.of("progress", course.batch_id)).keys() == listed

    def test_an_organisation_sees_its_own_learners(self, course: Course, reports: Reports) -> None:
        course.create("quiz")
        course.learner("theirs")
        ours = course.user("ours", rootorgid="us")
        course.enrol(ours)
        assert by_user(reports.of("progress", course.batch_id, "--channel", "us")).keys() == {ours}
        assert len(reports.of("progress", course.batch_id, "--channel", CHANNEL)) == 2

    def test_progress_of_learners(self, course: Course, reports: Reports) -> None:
        course.create("quiz", leaf_nodes=3)
        course.relations.sadd(f"{course.course_id}:{course.course_id}:optionalnodes", "optional")
        some = {"a": 2, "b": 2, "c": 1, "optional": 2}
        expected = {
            course.learner("two-of-three", contentstatus=some): ("67", "", ""),
            course.learner("done", completedon="2024-05-14 19:00:00.000Z"): ("100", "15/05/2024", ""),
            course.learner("certified", issued_certificates=[{"name": "x"}]): ("0", "", "Issued"),
        }
        rows = by_user(reports.of("progress", course.batch_id))
        titles = ("Progress", "Completion Date", "Certificate Status")
        assert {user_id: tuple(row[title] for title in titles) for user_id, row in rows.items()} == expected

    def test_a_time_that_no_datetime_can_hold_is_left_out_with_a_warning(
        self, course: Course, reports: Reports, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Somebody wrote us instead of ms."""
        course.create("quiz")
        user_id = course.learner("asha", completedon=1_715_713_200_000_000, contentstatus={"quiz": 2})
        (row,) = reports.of("progress", course.batch_id)
        assert (row["Completion Date"], row["Enrolment Date"]) == ("", "14/05/2024")
        assert f"completedon of {user_id} is left out, it is no time in ms: 1715713200000000" in caplog.messages

    def test_of_the_copy_of_the_enrolments(
        self, course: Course, reports: Reports, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AGGREGATES__ENROLMENTS_TABLE", "report_user_enrolments")
        course.create("quiz")
        users = {course.user(f"learner-{number}") for number in range(5)}
        for user_id in users:
            course.enrol(user_id, table="report_user_enrolments", contentstatus={"quiz": 2})
        rows = by_user(reports.of("progress", course.batch_id))
        assert {user_id: row["Progress"] for user_id, row in rows.items()} == dict.fromkeys(users, "25")

    def test_chosen_columns(self, course: Course, reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AGGREGATES__PROGRESS_COLUMNS", "{status: Status, userid: User UUID}")
        course.create("quiz")
        user_id = course.user("asha", status="1")
        course.enrol(user_id)
        (row,) = reports.of("progress", course.batch_id)
        assert list(row.items()) == [("Status", "1"), ("User UUID", user_id)]

    def test_huge_texts(self, course: Course, reports: Reports) -> None:
        course.create("quiz")
        course.enrol(course.user("asha", schoolname="x" * 100_000))
        (row,) = reports.of("progress", course.batch_id)
        assert row["School Name"] == "x" * 100_000

    def test_all_batches_of_a_course_and_of_a_file(
        self, course: Course, reports: Reports, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        course.create("quiz")
        course.add_batch()
        course.add_batch()
        assert reports.run("progress", "--course", course.course_id, "--out", str(tmp_path)) == 0
        assert all(reports.path("progress", each, "zip").exists() for each in course.batches)
        listed, unlisted = course.batches[:2], course.batches[2]
        (tmp_path / "batches").write_text("\n".join(listed))
        file, folder = str(tmp_path / "batches"), tmp_path / "of-file"
        assert reports.run("progress", "--batches", file, "--out", str(folder)) == 0
        assert len(list(folder.glob("progress-exhaust/*.zip"))) == len(listed)
        assert unlisted not in capsys.readouterr().err.partition(str(folder))[2]

    def test_what_cannot_be_reported(
        self, course: Course, reports: Reports, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        course.create("quiz")
        course.session.execute(
            f"DELETE FROM {HIERARCHY_KEYSPACE}.content_hierarchy WHERE identifier = %s", [course.course_id]
        )
        arguments = ["progress", "--batch", course.batch_id, "--out", str(tmp_path)]
        assert reports.run(*arguments) == 1
        assert f"No hierarchy found for the collection {course.course_id}" in capsys.readouterr().err
        course.services.contents[course.course_id]["status"] = "Retired"
        assert reports.run(*arguments) == 1
        assert "is retired or unknown" in capsys.readouterr().err
        assert reports.run("progress", "--batch", f"{course.batch_id}-x", "--out", str(tmp_path)) == 1
        assert f"There is no batch {course.batch_id}-x" in capsys.readouterr().err
        assert reports.run("progress", "--course", f"{course.course_id}-x", "--out", str(tmp_path)) == 1
        assert f"There is no batch of {course.course_id}-x" in capsys.readouterr().err
        assert reports.run(*arguments, "--course", f"{course.course_id}-x") == 1
        assert f"There is no batch {course.batch_id} of {course.course_id}-x" in capsys.readouterr().err
        assert reports.run("progress", "--batches", "/dev/null", "--out", str(tmp_path)) == 1
        assert "/dev/null names no batch" in capsys.readouterr().err
        assert [path for path in tmp_path.rglob("*") if path.is_file() or path.name.startswith(".")] == []

    def test_a_password(self, course: Course, reports: Reports, tmp_path: Path) -> None:
        course.create("quiz")
        user_id = course.learner("asha")
        (tmp_path / "password").write_text("secret\n")
        arguments = ["progress", "--batch", course.batch_id, "--out", str(tmp_path)]
        assert reports.run(*arguments, "--password-file", str(tmp_path / "password")) == 0
        assert {row["User UUID"] for row in unzip(reports.path("progress", course.batch_id, "zip"), "secret")} == {
            user_id
        }

    def test_a_server_that_is_down(
        self, reports: Reports, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        monkeypatch.setenv("AGGREGATES__CASSANDRA__PORT", "1")
        assert reports.run("progress", "--batch", "b", "--out", str(tmp_path)) == 1
        errors = capsys.readouterr().err
        assert "Cassandra" in errors
        assert "Traceback" not in errors
