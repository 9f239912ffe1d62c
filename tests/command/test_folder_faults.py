"""A folder as the input, where uploads, creates and documents go wrong; against a real sandbox on a real socket."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command_line import asked, command, sandbox
from tests.support.folder_run import (
    INVOICE,
    LETTER,
    configure,
    delete_uploads,
    lines,
    listed,
    make_inbox,
    run_killed_at,
    run_words,
    uploads_by_content,
)

VERSIONS = pytest.mark.parametrize("version", ["v1", "v2"])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that holds an inbox of three contents at four paths."""
    return make_inbox(tmp_path)


def add_documents(place: Path, count: int) -> None:
    for number in range(count):
        (place / "inbox" / f"n{number}.txt").write_text(f"{INVOICE} number {number}")


def assert_sound(place: Path, server: str, contents: int) -> None:
    """Each content has one answer, and was paid once."""
    assert len({line["file_id"] for line in lines(place)}) == len(lines(place)) == contents
    assert asked(server)["files_billed"] == contents
    assert asked(server)["files_billed_more_than_once"] == []
    command("verify", "runs/today", folder=place, status=0)


@VERSIONS
def test_uploads_that_expire_before_their_create_are_brought_again(place: Path, version: str) -> None:
    """A create that finds an upload gone is no failure of the file: a new attempt sends a new upload."""
    add_documents(place, 9)
    # By this seed two of all uploads expire, so no document needs more than three, in whichever order they are named.
    with sandbox("--seed", "13", "--fault", "upload_expired=0.1") as server:
        configure(place, server, version)
        command(*run_words(), folder=place, status=0)
        assert asked(server)["requests"]["create"]["400"] > 0
        assert_sound(place, server, 12)


@VERSIONS
def test_a_server_that_keeps_no_upload_is_not_asked_without_end(place: Path, version: str) -> None:
    """After a few uploads of one content it fails as the API says; nothing was paid."""
    with sandbox("--fault", "upload_expired=1") as server:
        configure(place, server, version)
        command(*run_words(), folder=place, status=1)
        assert {line["code"] for line in lines(place, file="failures.jsonl")} == {"rejected"}
        assert asked(server)["files_billed"] == 0
        assert asked(server)["requests"]["upload"]["200"] < 30


@VERSIONS
def test_uploads_that_expire_between_attempts_are_brought_again(place: Path, version: str) -> None:
    """A job that ended badly is tried again with an upload that lives."""
    add_documents(place, 5)
    # By this seed the third job alone ends badly, of all that there can be: in whichever order they are created.
    options = ("--seed", "3", "--job-duration-s", "2", "--uploads-expire-in-s", "1.5", "--fault", "error=0.3")
    with sandbox(*options) as server:
        configure(place, server, version)
        command(*run_words(), folder=place, status=0)
        assert_sound(place, server, 8)


@VERSIONS
@pytest.mark.parametrize("step", ["after the first intent", "after the intent", "after the create"])
def test_the_next_day_a_killed_run_goes_on_though_its_uploads_are_gone(place: Path, version: str, step: str) -> None:
    """What was sent is looked for under the IDs that were sent; what was not is brought anew. Nothing is paid twice,
    and nothing is given up as unresolved."""
    with sandbox() as server:
        configure(place, server, version)
        run_killed_at(step, place)
        delete_uploads(place, server)
        command(*run_words(), folder=place, status=0)
        assert_sound(place, server, 3)


@VERSIONS
def test_a_lost_create_answer_is_adopted_by_the_ids_that_were_sent(place: Path, version: str) -> None:
    """No create is resent with new IDs: each content is uploaded, answered and paid once."""
    add_documents(place, 9)
    with sandbox("--seed", "5", "--fault", "create.after.close=0.5") as server:
        configure(place, server, version)
        command(*run_words(), folder=place, status=0)
        assert_sound(place, server, 12)
        assert set(uploads_by_content(place, server).values()) == {1}
        assert {line["sent_id"] for line in lines(place)} == {each["id"] for each in listed(place, server)}


@pytest.mark.parametrize(
    "faults",
    [
        ("upload.after.close=0.3", "upload.after.reset=0.2"),
        ("upload.before.429=0.5", "files.before.429=0.1"),
        ("upload.before.503=0.2", "upload.after.503=0.2"),
        ("upload.after.cut=0.2", "upload.after.garbage=0.1", "upload.after.reset_midway=0.1"),
        ("upload.before.close=0.3", "files.before.reset=0.1"),
        # Slow, but within `api.timeout_s`: what is kept only after its repetition was sent is there twice, and rightly.
        ("upload.after.hang=0.1", "upload.before.slow=0.2", "slow_s=0.3"),
    ],
    ids=["lost", "throttled", "5xx", "torn", "cut", "slow"],
)
@VERSIONS
def test_an_upload_that_met_trouble_is_found_or_sent_again(place: Path, version: str, faults: tuple[str, ...]) -> None:
    """Each content is uploaded once, whether the answer to it came or not, and no document fails."""
    add_documents(place, 9)
    with sandbox("--seed", "2", *[word for each in faults for word in ("--fault", each)]) as server:
        configure(place, server, version, timeout_s=4)
        command(*run_words(), folder=place, status=0)
        assert_sound(place, server, 12)
        assert set(uploads_by_content(place, server).values()) == {1}


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_document_that_the_api_refuses_fails_and_no_other(place: Path, status: int) -> None:
    """413 and its like are about the document; its failure says what the API said, and nothing was sent or paid."""
    with sandbox("--fault", f"upload.before.{status}=1") as server:
        configure(place, server)
        command(*run_words(), folder=place, status=1)
        failures = lines(place, file="failures.jsonl")
        assert {line["code"] for line in failures} == {"not_uploadable"}
        assert all(f"HTTP {status}" in line["message"] for line in failures)
        assert "create" not in asked(server)["requests"]


def test_an_api_that_takes_no_uploads_stops_the_run_for_now(place: Path) -> None:
    """No document is blamed for it, and the same command goes on later."""
    with sandbox("--fault", "upload.before.503=1") as server:
        configure(place, server, more="patience_s = 2")
        said = command(*run_words(), folder=place, status=75).stderr
        assert "HTTP 503" in said
        assert lines(place, file="failures.jsonl") == []


def changed(path: Path) -> None:
    path.write_text(LETTER + " changed")


def grown(path: Path) -> None:
    with path.open("a") as file:
        file.write(" and more")


def emptied(path: Path) -> None:
    path.write_text("")


def became_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def became_a_link(path: Path) -> None:
    elsewhere = path.parent.parent.parent / "elsewhere.txt"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def became_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def behind_a_link(path: Path) -> None:
    """The folder that it is in was moved out, and a link leads there."""
    elsewhere = path.parent.parent.parent / "elsewhere"
    path.parent.rename(elsewhere)
    path.parent.symlink_to(elsewhere)


def unreadable(path: Path) -> None:
    path.chmod(0)
    if os.geteuid() == 0:
        became_a_folder(path)  # root reads everything


@VERSIONS
@pytest.mark.parametrize(
    "change",
    [changed, grown, emptied, Path.unlink, unreadable, became_a_pipe, became_a_link, became_a_folder, behind_a_link],
    ids=lambda change: change.__name__,
)
def test_what_became_of_a_document_since_the_plan_fails_it_alone(
    place: Path, version: str, change: Callable[[Path], None]
) -> None:
    """What isn't the planned content, in the folder itself, is not sent; a copy of it is."""
    (place / "inbox" / "sub" / "copy of c.md").write_text(INVOICE + ", once more")
    with sandbox() as server:
        configure(place, server, version)
        command("plan", *run_words()[1:], folder=place, status=0)
        change(place / "inbox" / "sub" / "b.txt")
        command("resume", "runs/today", folder=place, status=1)
        (failure,) = lines(place, file="failures.jsonl")
        assert (failure["code"], failure["carried"]["path"]) == ("not_uploadable", "sub/b.txt")
        assert len(lines(place)) == len(listed(place, server)) == 2


@VERSIONS
@pytest.mark.parametrize("emptied", [False, True], ids=["gone", "empty"])
def test_a_folder_that_is_gone_stops_the_run_and_fails_no_document(place: Path, version: str, emptied: bool) -> None:
    """A volume that isn't mounted says nothing about the documents: 75, and the same command goes on."""
    with sandbox() as server:
        configure(place, server, version)
        command("plan", *run_words()[1:], folder=place, status=0)
        (place / "inbox").rename(place / "away")
        if emptied:
            (place / "inbox").mkdir()
        said = command("resume", "runs/today", folder=place, status=75).stderr
        assert "is not there as it was" in said
        assert "hint: bring it back" in said
        if emptied:
            (place / "inbox").rmdir()
        (place / "away").rename(place / "inbox")
        command("resume", "runs/today", folder=place, status=0)
        assert_sound(place, server, 3)


@VERSIONS
def test_an_unchanged_document_is_not_paid_again_though_its_upload_expired(place: Path, version: str) -> None:
    """The next day's run reuses the answers by content, and uploads what is new only."""
    with sandbox() as server:
        configure(place, server, version)
        command(*run_words(), folder=place, status=0)
        delete_uploads(place, server)
        shutil.move(place / "inbox" / "a.txt", place / "inbox" / "renamed.txt")
        (place / "inbox" / "new.txt").write_text(LETTER + "!")
        command(*run_words("tomorrow", "--reuse", "runs/today"), folder=place, status=0)
        assert asked(server)["files_billed"] == 4
        assert len(listed(place, server)) == 1
        paths = {str(line["carried"]) for line in lines(place, "tomorrow")}
        assert "[{'path': 'copy.txt'}, {'path': 'renamed.txt'}]" in paths


@VERSIONS
def test_a_bound_on_credits_stops_the_run_and_a_higher_one_goes_on(place: Path, version: str) -> None:
    """77 where the next job would cost more than is left; with more credits the rest is sent, and nothing again."""
    add_documents(place, 3)
    with sandbox() as server:
        configure(place, server, version, files_per_job=1)
        command(*run_words("today", "--max-credits", "7"), folder=place, status=77)
        paid = asked(server)["files_billed"]
        assert 0 < paid < 6
        delete_uploads(place, server)
        command(*run_words("today", "--max-credits", "100"), folder=place, status=0)
        assert_sound(place, server, 6)


@VERSIONS
def test_failed_documents_are_tried_again_and_answered_ones_are_not(place: Path, version: str) -> None:
    """`--retry-failed` brings what the API refused, as often as it is asked; what was answered is not sent again."""
    add_documents(place, 5)
    with sandbox("--seed", "4", "--fault", "upload.before.413=0.5") as server:
        configure(place, server, version)
        command(*run_words(), folder=place, status=1)
        delete_uploads(place, server)
        for _ in range(20):
            if command("resume", "runs/today", "--retry-failed", folder=place).returncode == 0:
                break
        assert_sound(place, server, 8)


@VERSIONS
def test_a_poisonous_document_fails_alone(place: Path, version: str) -> None:
    """Each job with it ends with an error, also alone: the others have their answers, and it fails with its code and
    path. The tolerance decides the exit status. A retry tries it alone, pays nobody again, and takes an answer."""
    add_documents(place, 9)
    (place / "inbox" / "n4.txt").write_text("this breaks the parser")
    ledger = ("--ledger", str(place / "ledger"))
    with sandbox(*ledger) as server:
        port = int(server.rpartition(":")[2])
        upload = ("files", "upload", "inbox/n4.txt", "--base-url", server)
        poison = json.loads(command(*upload, folder=place, status=0).stdout)["file_id"]
    configure(place, server, version, files_per_job=12)
    with sandbox(*ledger, "--fault", f"poison={poison}", port=port) as server:
        command(*run_words(), folder=place, status=1)
        (failure,) = lines(place, file="failures.jsonl")
        assert (failure["code"], failure["carried"], failure["sent_id"]) == ("job_error", {"path": "n4.txt"}, poison)
        assert len(lines(place)) == 11
        retry = ("resume", "runs/today", "--retry-failed", "--tolerated-failure-percentage", "10")
        created = asked(server)["requests"]["create"]["200"]
        command(*retry, folder=place, status=0)
        assert 0 < asked(server)["requests"]["create"]["200"] - created <= 3, "it alone, and no more than its attempts"
        assert [line["carried"] for line in lines(place, file="failures.jsonl")] == [{"path": "n4.txt"}]
    with sandbox(*ledger, port=port) as server:
        command(*retry, folder=place, status=0)
        assert lines(place, file="failures.jsonl") == []
        assert_sound(place, server, 12)
        assert set(uploads_by_content(place, server).values()) == {1}


@pytest.mark.parametrize("gone", [False, True], ids=["there", "gone"])
def test_a_second_look_over_a_folder_brings_its_documents_again(place: Path, gone: bool) -> None:
    """A weak answer gets a second look over a new upload where the first expired; where the document is gone, the first
    answer counts."""
    options = ("--job-duration-s", "2", "--uploads-expire-in-s", "1.5")
    with sandbox(*options) as server:
        more = "attempts = 2\njobs_in_flight = 1\n[escalation]\nunmatched = true\nmode = 'MULTIMODAL'"
        configure(place, server, more=more, files_per_job=10)
        (place / "inbox" / "sub" / "b.txt").write_text("zzz")
        command("plan", *run_words()[1:], folder=place, status=0)
        if gone:
            command("resume", "runs/today", "--submit-only", folder=place, status=75)
            (place / "inbox" / "sub" / "b.txt").write_text("another text")
        command("resume", "runs/today", folder=place, status=0)
        counts = {str(line["carried"]): line.get("counts") for line in lines(place)}
        assert len(counts) == 3
        assert counts["{'path': 'c.md'}"] is None
        assert counts["{'path': 'sub/b.txt'}"] == ("first" if gone else "second")
