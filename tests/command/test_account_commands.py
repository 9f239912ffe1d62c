"""What commands say and do of a run with several accounts, and where its files are."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
from collections import Counter
from pathlib import Path

from classify_batch.rundir.opened_run import read_run
from classify_batch.store import open_store, place_of
from tests.support.accounts import KEYS, AccountsPlace, environment, two_accounts
from tests.support.command_line import until
from tests.support.start_command import COMMAND, CommandProcess, run_process

OTHER_PROJECT = ("--further-key", f"{KEYS['west']}=project-2", "--files-of-project", "own-")


def say(place: AccountsPlace, *words: str) -> tuple[int, str]:
    """A command's exit status, and all that it said."""
    done = run_process([*COMMAND, *words], env=environment(KEYS))
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def share_server(place: AccountsPlace) -> None:
    """Both accounts lead to one server, with a project each; a tenth of the files is in the first one's only."""
    place.servers["west"].stop()
    place.servers["west"].port = place.servers["east"].port
    place.write("east", "west")
    ids = [f"own-{number}" if number % 10 == 0 else f"file-{number}" for number in range(place.files)]
    (place.folder / "ids.txt").write_text("".join(f"{file_id}\n" for file_id in ids))


def test_check_names_the_account_that_lacks_a_file(tmp_path: Path) -> None:
    """`check` asks every account for the files, and says which one lacks some; and whose key is refused."""
    with two_accounts(tmp_path, east=OTHER_PROJECT, files=100) as place:
        share_server(place)
        words = ("check", str(place.folder / "job.toml"), "--input", str(place.folder / "ids.txt"))
        status, said = say(place, *words)
        assert status == 2, said
        assert "account west: 10 file IDs are not in the project: 'own-0', 'own-10'" in said, said
        assert "account east:" not in said
        assert "100 of 100 files in the project" in said
        environ = environment({**KEYS, "west": "llx-unknown"})
        done = run_process([*COMMAND, *words], env=environ)
        assert done.returncode == 77, done.stdout
        assert "account west:" in done.stdout


def test_a_file_that_one_account_lacks_fails_with_its_name(tmp_path: Path) -> None:
    """A file is refused to the account that lacks it, and its failure names that account; a retry with the other one
    alone classifies it, and nothing is paid twice."""
    with two_accounts(tmp_path, east=OTHER_PROJECT, files=100) as place:
        share_server(place)
        status, said = place.run("--shards", "8")
        assert status == 1, said
        failures = [line for line in place.outcomes() if line["outcome"] == "failed"]
        assert failures
        assert all(line["file_id"].startswith("own-") and line["code"] == "rejected" for line in failures)
        assert all(line["message"].endswith("(account west)") for line in failures)
        config = (place.folder / "job.toml").read_text()
        (place.folder / "job.toml").write_text(config[: config.rindex("[[accounts]]")])
        status, said = say(
            place, "resume", str(place.run_dir), "--config", str(place.folder / "job.toml"), "--retry-failed"
        )
        assert status == 0, said
        assert set(place.servers["east"].paid().values()) == {1}
        assert Counter(line["file_id"] for line in place.outcomes()).total() == 100


def wait_for_more(place: AccountsPlace, paid: int, process: subprocess.Popen[str]) -> None:
    """Returns when more than so many files were paid, or the process has ended."""
    until(lambda: process.poll() is not None or place.paid().total() > paid)


def test_documents_of_a_folder_are_brought_to_each_account(tmp_path: Path) -> None:
    """The documents of a folder are uploaded by each account for its own shards. A run that is killed goes on with
    either account alone, and each document is paid once, where it was uploaded to."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for number in range(60):
        (inbox / f"{number}.txt").write_text(f"document {number} has line items and a total")
    slow = ("--job-duration-s", "0.5")
    with two_accounts(tmp_path, east=slow, west=slow, files=60) as place:
        words = [
            *COMMAND,
            "run",
            str(place.folder / "job.toml"),
            "--input",
            str(inbox),
            "--run-dir",
            str(place.run_dir),
        ]
        for names in (("east", "west"), ("west",), ("east",), ("east", "west")):
            place.write(*names)
            process = CommandProcess(words, stderr=subprocess.PIPE, text=True, env=environment(KEYS))
            if len(names) == 2:
                wait_for_more(place, place.paid().total(), process)
            else:
                wait_for_more(place, 39, process)
            process.kill()
            process.communicate()
        done = run_process(words, env=environment(KEYS))
        assert done.returncode == 0, done.stderr
        outcomes = place.outcomes()
        assert sorted(line["carried"]["path"] for line in outcomes) == sorted(f"{n}.txt" for n in range(60))
        paid = {name: server.paid() for name, server in place.servers.items()}
        assert paid["east"].total() + paid["west"].total() == 60
        assert set(paid["east"].values()) | set(paid["west"].values()) == {1}
        sent = Counter(line["sent_id"] for line in outcomes)
        assert sent == paid["east"] + paid["west"]


def test_cancel_reaches_the_jobs_of_every_account(tmp_path: Path) -> None:
    """A run of two accounts was killed with jobs of both in flight: `cancel` cancels all of them, each by its own key,
    and the run goes on afterwards."""
    slow = ("--job-duration-s", "100")
    with two_accounts(tmp_path, east=slow, west=slow, version="v2", files=40) as place:
        process = place.start("--shards", "4")
        until(lambda: len(jobs_of(place, "east")) >= 3 and len(jobs_of(place, "west")) >= 3, process)
        process.kill()
        process.communicate()
        jobs = {name: jobs_of(place, name) for name in KEYS}
        status, said = say(place, "cancel", str(place.run_dir))
        assert status == 77, said
        assert "cancelled" in said
        for name, job_ids in jobs.items():
            assert job_ids, name
        assert jobs_left(place) == []  # a create without a job stays open: what became of it, a later call finds out
        for server in place.servers.values():
            server.stop()
            server.start("--job-duration-s", "0.05")
        status, said = place.run()
        assert status == 0, said
        assert Counter(line["file_id"] for line in place.outcomes()) == Counter(place.file_ids)


def test_cancel_reaches_both_accounts_at_work(tmp_path: Path) -> None:
    """A process with two accounts is at work: `cancel` cancels what both have in flight, and both leave with 77."""
    slow = ("--job-duration-s", "100")
    with two_accounts(tmp_path, east=slow, west=slow, version="v2", files=40) as place:
        process = place.start("--shards", "4")
        until(lambda: len(jobs_of(place, "east")) >= 3 and len(jobs_of(place, "west")) >= 3, process)
        status, said = say(place, "cancel", str(place.run_dir))
        assert status == 77, said
        _, said = process.communicate(timeout=60)
        assert process.returncode == 77, said
        assert jobs_left(place) == []
        assert place.status()["cancel"] == "done"


def jobs_left(place: AccountsPlace) -> list[str]:
    """The jobs that the journals name of attempts that have not ended."""

    async def read() -> list[str]:
        stores = [open_store(place_of(path)) for path in sorted((place.run_dir / "shards").iterdir())]
        runs = [found for store in stores if (found := await read_run(store)) is not None]
        return [
            str(each.job_id) for run in runs for each in run.snapshot.open_attempts.values() if each.job_id is not None
        ]

    return asyncio.run(read())


def jobs_of(place: AccountsPlace, name: str) -> set[str]:
    """The jobs that a server has accepted."""
    ledger = place.servers[name].ledger
    lines = ledger.read_bytes().split(b"\n")[:-1] if ledger.exists() else []  # the last one may not be whole yet
    return {str(json.loads(line).get("job_id") or json.loads(line).get("id")) for line in lines}


def test_a_run_goes_on_by_resume(tmp_path: Path) -> None:
    """`resume DIR` knows the accounts of the plan, and a run that is complete needs no key."""
    slow = ("--job-duration-s", "0.3")
    with two_accounts(tmp_path, east=slow, west=slow) as place:
        process = place.start()
        until(lambda: place.paid().total() >= 20, process)
        process.kill()
        process.communicate()
        status, said = say(place, "resume", str(place.run_dir))
        assert status == 0, said
        place.judge()
        status, said = say(place, "status", str(place.run_dir))
        assert "accounts\n  east  " in said
        status, said = place.run(keys={})
        assert status == 0, said


def test_a_shard_that_another_process_holds_is_passed_over(tmp_path: Path) -> None:
    """The accounts carry out all others; the command ends with 75, and names who holds that one."""
    with two_accounts(tmp_path, files=60) as place:
        status, said = say(
            place,
            *("plan", str(place.folder / "job.toml"), "--input", str(place.folder / "ids.txt")),
            *("--run-dir", str(place.run_dir), "--shards", "4"),
        )
        assert status == 0, said
        held = place.run_dir / "shards" / "00002"
        held.mkdir(parents=True)
        descriptor = os.open(held / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            status, said = place.run()
        finally:
            os.close(descriptor)
        assert status == 75, said
        assert "1 incomplete (2)" in said
        assert len(place.outcomes()) == 45
        status, said = place.run()
        assert status == 0, said
        place.judge()


def test_a_run_without_shards_takes_no_accounts(tmp_path: Path) -> None:
    """A run that was planned for one process is no run of accounts: an error says so."""
    with two_accounts(tmp_path) as place:
        config = (place.folder / "job.toml").read_text()
        (place.folder / "job.toml").write_text(config[: config.index("[[accounts]]")])
        given = ("--input", str(place.folder / "ids.txt"), "--run-dir", str(place.run_dir))
        status, said = say(place, "plan", str(place.folder / "job.toml"), *given)
        assert status == 0, said
        place.write("east", "west")
        status, said = place.run()
        assert status == 2, said
        assert "hint: leave [[accounts]] out, or name a new run directory" in said
        assert not place.paid()


def test_a_plan_for_accounts_has_shards(tmp_path: Path) -> None:
    """`plan` divides a new run into 8 shards for each account, and no more than it has chunks; it needs no key."""
    with two_accounts(tmp_path, files=200) as place:
        given = ("--input", str(place.folder / "ids.txt"), "--run-dir", str(place.run_dir))
        done = run_process([*COMMAND, "plan", str(place.folder / "job.toml"), *given], env=environment({}))
        assert done.returncode == 0, done.stderr
        assert len(json.loads((place.run_dir / "run.json").read_bytes())["shards"]) == 16
        place.files = 12
        place.write("east", "west")
        given = ("--input", str(place.folder / "ids.txt"), "--run-dir", str(place.folder / "few"))
        assert say(place, "plan", str(place.folder / "job.toml"), *given)[0] == 0
        assert len(json.loads((place.folder / "few" / "run.json").read_bytes())["shards"]) == 3
