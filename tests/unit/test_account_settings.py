"""`[[accounts]]`: what is taken and refused, what an account inherits, and where its key comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from classify_batch.errors import SettingsError
from classify_batch.settings import Settings, read_accounts
from classify_batch.settings.origins import list_settings

JOB = {"rules": [{"type": "invoice", "description": "has an invoice number and a total"}]}
EAST: dict[str, Any] = {"name": "east", "api_key_env": "EAST_KEY"}
WEST: dict[str, Any] = {"name": "west", "api_key_env": "WEST_KEY"}
KEYS = {"EAST_KEY": "llx-1", "WEST_KEY": "llx-2"}


def with_accounts(*accounts: dict[str, Any], **sections: Any) -> Settings:
    return Settings(job=JOB, accounts=accounts, **sections)


def refusal(*accounts: dict[str, Any], **sections: Any) -> str:
    """What is said about these accounts."""
    with pytest.raises(SettingsError) as caught:
        with_accounts(*accounts, **sections)
    assert caught.value.hint
    return str(caught.value)


def test_what_an_account_leaves_out_is_as_for_the_run() -> None:
    """An account has the limits and the way to the API that it names; the rest comes from [api] and [limits], but the
    whole run's max_credits is not its own."""
    settings = with_accounts(
        {**EAST, "project_id": "p-east", "requests_per_s": 5, "max_credits": 7},
        WEST,
        api={"project_id": "p", "organization_id": "o"},
        limits={"requests_per_s": 30, "jobs_in_flight": 3, "max_credits": 100},
    )
    east, west = read_accounts(settings, KEYS)
    assert (east.settings.api.project_id, east.settings.api.organization_id) == ("p-east", "o")
    assert (west.settings.api.project_id, west.settings.limits.requests_per_s) == ("p", 30)
    assert (east.settings.limits.requests_per_s, east.settings.limits.jobs_in_flight) == (5, 3)
    assert (east.max_credits, west.max_credits) == (7, None)
    assert [each.key.get_secret_value() for each in (east, west)] == ["llx-1", "llx-2"]
    assert "llx-1" not in repr(east)


def test_accounts_are_no_part_of_a_run_s_identity() -> None:
    """A run may go on with other accounts; without any, run.json says nothing of them, and with some it has their
    names and variables, and no key."""
    without, with_two = Settings(job=JOB), with_accounts(EAST, WEST)
    assert without.identity() == with_two.identity()
    assert "accounts" not in without.to_stored()
    stored: Any = with_two.to_stored()
    assert stored["accounts"] == [EAST, WEST]
    assert Settings.from_stored(stored).accounts == with_two.accounts


@pytest.mark.parametrize(
    ("accounts", "words"),
    [
        ([EAST, {**WEST, "name": "east"}], "accounts.1.name: account 0 has this name already (given: 'east')"),
        ([EAST, {**WEST, "api_key_env": "EAST_KEY"}], "accounts.1.api_key_env: account 'east' has its key from this"),
        ([{**EAST, "name": "East!"}], "accounts.0.name"),
        ([{"name": "east"}], "accounts.0.api_key_env: missing"),
        ([{"name": "east", "api_key_env": "2ND_KEY"}], "letters, digits and _, with no digit first"),
        ([{**EAST, "base_url": "http://elsewhere.example"}], "accounts.0.base_url: http:// would send the API key"),
        ([{**EAST, "base_url": "sandbox"}], "the embedded sandbox has one key"),
        ([{**EAST, "requests_per_s": 0}], "accounts.0.requests_per_s"),
        ([{**EAST, "projectid": "p"}], "accounts.0.projectid: unknown setting"),
    ],
)
def test_a_wrong_account_is_named(accounts: list[dict[str, Any]], words: str) -> None:
    """Each fault says which account and which setting it is."""
    assert words in refusal(*accounts)


@pytest.mark.parametrize("where", ["api_key_env", "api_key"])
def test_a_key_in_the_place_of_its_variable_is_not_shown(where: str) -> None:
    """Whoever writes the key itself into the config gets an error that doesn't repeat it."""
    assert "llx-s3cr3t" not in refusal({**EAST, where: "llx-s3cr3t"})


def test_a_key_may_stand_in_a_file(tmp_path: Path) -> None:
    """NAME_FILE names a file that holds the key, as for the run's own."""
    (tmp_path / "key").write_text("llx-3\n")
    (account,) = read_accounts(with_accounts(EAST), {"EAST_KEY_FILE": str(tmp_path / "key")})
    assert account.key.get_secret_value() == "llx-3"


def test_all_errors_of_keys_are_reported_at_once() -> None:
    """Every account whose key is missing, or is none, or is another's, is named; no key is."""
    third = {"name": "north", "api_key_env": "NORTH_KEY"}
    with pytest.raises(SettingsError) as caught:
        read_accounts(with_accounts(EAST, WEST, third), {"EAST_KEY": "llx-s3cr3t", "NORTH_KEY": "llx-s3cr3t"})
    said = str(caught.value)
    assert "account west: no API key: neither WEST_KEY nor WEST_KEY_FILE holds one" in said
    assert "accounts east and north have the same key" in said
    assert "llx-s3cr3t" not in said
    with pytest.raises(SettingsError, match="account east: the API key from EAST_KEY begins with"):
        read_accounts(with_accounts(EAST), {"EAST_KEY": "Bearer llx"})


def test_config_show_names_accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each account's settings are listed with their line in the config, and whether its key is there."""
    monkeypatch.delenv("LLAMA_CLOUD_API_KEY", raising=False)
    monkeypatch.setenv("EAST_KEY", "llx-s3cr3t")
    monkeypatch.delenv("WEST_KEY", raising=False)
    config = tmp_path / "job.toml"
    config.write_text(
        '[job]\nrules = [{ type = "invoice", description = "has line items and a total" }]\n'
        '[[accounts]]\nname = "east"\napi_key_env = "EAST_KEY"\n'
        '[[accounts]]\nname = "west"\napi_key_env = "WEST_KEY"\nrequests_per_s = 5\n'
    )
    listed = {each.name: (each.value, each.origin) for each in list_settings(config, {})}
    assert listed["accounts.0.name"] == ("east", f"{config}, line 4")
    assert listed["accounts.1.requests_per_s"] == (5.0, f"{config}, line 9")
    assert listed["accounts.0.requests_per_s"] == (None, "default")
    assert listed["accounts.0.key"] == ("given", "EAST_KEY")
    assert listed["accounts.1.key"][0] == "no API key: neither WEST_KEY nor WEST_KEY_FILE holds one"
    assert "key" not in listed
    assert "llx-s3cr3t" not in str(listed)
