"""Runs with several accounts: real processes, a server for each key, and what each of them was paid for."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.accounts import KEYS, two_accounts
from tests.support.command_line import until


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_accounts_share_a_run(tmp_path: Path, version: str) -> None:
    """Two accounts with servers of their own carry a run out together: each does a part, each file is paid once, no
    file of the run holds a key, and status says what each has done."""
    with two_accounts(tmp_path, version=version) as place:
        status, said = place.run()
        assert status == 0, said
        place.judge()
        place.refuse_keys_on_disk()
        shares = place.status()["accounts"]
        assert {name: share["files"] for name, share in shares.items()} == {
            name: server.paid().total() for name, server in place.servers.items()
        }
        assert all(share["files"] and share["jobs"] and share["credits"] for share in shares.values())
        assert place.status()["start_count"] == len(place.status()["shards"]) == 16


def test_a_faster_account_does_more(tmp_path: Path) -> None:
    """An account that may send a hundredth of the other's requests carries out the smaller part."""
    more = {"west": "requests_per_s = 2"}
    with two_accounts(tmp_path, more=more, files=400) as place:
        status, said = place.run("--shards", "24")
        assert status == 0, said
        place.judge()
        assert place.servers["east"].paid().total() > place.servers["west"].paid().total() > 0


def test_what_an_account_without_credits_leaves_goes_to_the_others(tmp_path: Path) -> None:
    """One account gets 402 after some creates: what it has sent it collects, and the other one does the rest."""
    with two_accounts(tmp_path, east=("--fault", "credits=30")) as place:
        status, said = place.run()
        assert status == 0, said
        assert "account east makes no more jobs" in said
        place.judge()
        assert place.servers["east"].paid().total() == 30


def test_what_an_account_with_a_refused_key_has_sent_waits_for_it(tmp_path: Path) -> None:
    """One account's key is refused while its jobs are in flight. The other one does everything else, and touches none
    of these; the run ends with 77 and says whose they are. With the key, the same command finishes them."""
    slow = ("--job-duration-s", "10", "--job-duration-sigma", "0")
    with two_accounts(tmp_path, east=slow) as place:
        process = place.start()
        until(lambda: place.servers["east"].paid().total() >= 15, process)
        place.servers["east"].stop()
        place.servers["east"].start(*slow, "--fault", "any.before.401=1")
        _, said = process.communicate(timeout=120)
        assert process.returncode == 77, said
        assert "jobs are account east's" in said
        sent = place.servers["east"].paid()
        assert sent
        done = Counter(line["file_id"] for line in place.outcomes())
        assert not done.keys() & sent.keys()
        assert done.total() + sent.total() == place.files
        assert place.status()["accounts"]["east"]["open"] == sent.total() / 5
        # Without that account at all: likewise.
        place.write("west")
        status, said = place.run(keys={"west": KEYS["west"]})
        assert status == 77, said
        assert "jobs are account east's" in said
        assert place.servers["west"].paid().total() + sent.total() == place.files
        # And with it.
        place.servers["east"].stop()
        place.servers["east"].start()
        place.write("east", "west")
        status, said = place.run()
        assert status == 0, said
        assert place.servers["east"].paid() == sent
        place.judge()


def test_an_account_whose_api_is_down_leaves_with_75(tmp_path: Path) -> None:
    """One account's server is gone while its jobs are in flight: the other does the rest, and the run ends with 75,
    since nobody has to act. When it is back, the same command finishes its jobs."""
    slow = ("--job-duration-s", "10", "--job-duration-sigma", "0")
    with two_accounts(tmp_path, east=slow, limits="patience_s = 3") as place:
        process = place.start()
        until(lambda: place.servers["east"].paid().total() >= 15, process)
        place.servers["east"].stop()
        _, said = process.communicate(timeout=120)
        assert process.returncode == 75, said
        assert "jobs are account east's, and nothing else is left (account east has ended: " in said
        assert "account east makes no more jobs" in said
        place.servers["east"].start()
        status, said = place.run()
        assert status == 0, said
        place.judge()


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_moments_lose_and_pay_nothing_twice(tmp_path: Path, seed: int, version: str) -> None:
    """A run of two accounts, both of which lose answers, is killed again and again, with either account alone in
    between: each file has one outcome and was paid once."""
    rng = random.Random(seed)
    faults = ("--fault", "lost_create_answer=0.1", "--fault", "list_lag_s=0.3")
    with two_accounts(tmp_path, east=faults, west=faults, version=version) as place:
        for _ in range(6):
            place.write(*rng.choice([("east", "west"), ("west", "east"), ("east",), ("west",)]))
            process = place.start()
            time.sleep(rng.uniform(0.9, 3.0))
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
        place.write("east", "west")
        status, said = place.run()
        assert status == 0, said
        place.judge()


def test_an_accounts_budget_bounds_what_its_shards_spend(tmp_path: Path) -> None:
    """An account with max_credits spends no more in all its shards together, also over several calls; the other one
    does the rest."""
    more = {"east": "max_credits = 150"}
    with two_accounts(tmp_path, more=more) as place:
        status, said = place.run()
        assert status == 0, said
        place.judge()
        assert 0 < place.status()["accounts"]["east"]["credits"] <= 150
        assert "max_credits of account east" in said
    # Alone, it ends with 77, and a second call spends nothing more.
    (tmp_path / "alone").mkdir()
    with two_accounts(tmp_path / "alone", more=more) as place:
        place.write("east")
        for _ in range(2):
            status, said = place.run(keys={"east": KEYS["east"]})
            assert status == 77, said
            assert "max_credits of account east" in said
            assert 0 < place.status()["accounts"]["east"]["credits"] <= 150


def test_one_shard_is_carried_out_by_the_account_whose_turn_it_is(tmp_path: Path) -> None:
    """`--shard I/N` takes account I modulo their number, unless the shard has another one's jobs."""
    with two_accounts(tmp_path) as place:
        for index in range(4):
            status, said = place.run("--shard", f"{index}/4")
            assert status == 0, said
        place.judge()
        accounts = [
            json.loads((place.run_dir / "shards" / f"{index:05d}" / "manifest.json").read_bytes())["starts"][-1][
                "account"
            ]
            for index in range(4)
        ]
        assert accounts == ["east", "west", "east", "west"]


def test_an_account_that_leads_elsewhere_now_is_refused(tmp_path: Path) -> None:
    """An account has jobs in flight, and the config gives its name to another server then: an error says so, and
    nothing is sent."""
    with two_accounts(tmp_path, east=("--job-duration-s", "60")) as place:
        place.write("east")
        process = place.start()
        until(lambda: place.servers["east"].paid().total() >= 10, process)
        process.kill()
        process.communicate(timeout=60)
        place.servers["east"].port, before = place.servers["west"].port, place.servers["east"].port
        place.write("east")
        status, said = place.run(keys={"east": KEYS["west"]})
        assert status == 2, said
        assert f"base_url: http://127.0.0.1:{before}" in said
        assert not place.servers["west"].paid()
        place.servers["east"].port = before


def test_missing_and_equal_keys_are_named_before_anything_is_sent(tmp_path: Path) -> None:
    """Each account whose key isn't there is named with its variable, and so are two with the same key; never a key."""
    with two_accounts(tmp_path) as place:
        status, said = place.run(keys={})
        assert status == 2
        assert "account east: no API key: neither EAST_KEY nor EAST_KEY_FILE holds one" in said
        assert "account west: no API key: neither WEST_KEY nor WEST_KEY_FILE holds one" in said
        assert "hint:" in said
        status, said = place.run(keys={"east": KEYS["east"], "west": KEYS["east"]})
        assert status == 2
        assert "accounts east and west have the same key" in said
        assert KEYS["east"] not in said
        assert not place.run_dir.exists()
        assert not place.paid()
