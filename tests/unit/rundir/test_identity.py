"""One table says what a run's identity is: what a directory holds one of, what `diff` names, what reuse depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import classify_batch
from classify_batch.capabilities import CAPABILITIES
from classify_batch.errors import RunDirectoryError
from classify_batch.llamacloud.v2.batch_api import ApiV2
from classify_batch.model import Attempt, AttemptKey, Part
from classify_batch.run_records import RunIdentity, StoredParsing
from classify_batch.rundir.identity import IDENTITY as PARTS
from classify_batch.rundir.identity import differing_for_answers, differing_parts
from classify_batch.rundir.run_json import RunFile, refuse_other_run
from classify_batch.settings import Settings
from classify_batch.settings.job_spec import JobSpec, ParsingConfiguration, Rule

RULES = [
    {"type": "invoice", "description": "has a grand total"},
    {"type": "memo", "description": "is a short note"},
]
IDENTITY: RunIdentity = {
    "api_version": "v1",
    "base_url": "https://a",
    "project_id": "p",
    "mode": "FAST",
    "rules": RULES,
}


def names_of_differences(ours: RunIdentity, theirs: RunIdentity) -> list[str]:
    return [part.name for part in differing_for_answers(ours, theirs)]


# --- The table and the settings -----------------------------------------------------------------------------------

OTHERS: dict[str, dict[str, Any]] = {
    "api.version": {"api": {"version": "v2"}},
    "api.base_url": {"api": {"base_url": "https://other.test"}},
    "api.project_id": {"api": {"project_id": "other"}},
    "api.organization_id": {"api": {"organization_id": "other"}},
    "job.mode": {"job": {"rules": RULES, "mode": "MULTIMODAL"}},
    "job.rules": {"job": {"rules": [*RULES, {"type": "plan", "description": "is a drawing"}]}},
    "job.parsing_configuration": {"job": {"rules": RULES, "parsing_configuration": {"lang": "de"}}},
    "[escalation]": {"escalation": {"unmatched": True}},
    "[triage]": {"triage": {"accept_above": 0.5}},
    "plan.carry": {"plan": {"carry": ["name"]}},
}
"""For each part of the identity, settings that differ from `USUAL` in it alone."""

USUAL: dict[str, Any] = {"job": {"rules": RULES}}


def test_the_table_has_all_that_the_settings_tell_of_an_identity() -> None:
    """The keys of the table, of what settings give, and of what is read back from run.json are the same."""
    keys = {part.key for part in PARTS}
    assert set(Settings(**USUAL).identity()) == keys
    assert set(RunIdentity.__annotations__) - {"ids_sha256"} == keys
    assert {part.setting for part in PARTS} == set(OTHERS)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.key)
def test_each_part_is_the_setting_that_it_names(part: Any) -> None:
    """Where only the named setting is another one, the table names just this part, for answers as it says."""
    ours, theirs = Settings(**USUAL).identity(), Settings(**{**USUAL, **OTHERS[part.setting]}).identity()
    assert differing_parts(ours, theirs) == [part]
    assert differing_for_answers(ours, theirs) == ([part] if part.decides_answers else [])


def test_all_that_a_job_is_given_decides_its_answers() -> None:
    """Every field of a create call is part of the identity and decides answers, but for webhooks, which only tell."""
    told = {f"job.{name}" for name in JobSpec.model_fields if not name.startswith("webhook_")}
    assert {part.setting for part in PARTS if part.decides_answers} >= told
    for name, value in {"lang": "de", "max_pages": 3, "target_pages": [1]}.items():
        parsing: Any = {**USUAL["job"], "parsing_configuration": {name: value}}
        differing = names_of_differences(Settings(**USUAL).identity(), Settings(job=parsing).identity())
        assert differing == ["parsing configuration"]
    assert set(ParsingConfiguration.model_fields) == {"lang", "max_pages", "target_pages"}


def test_a_transaction_depends_on_all_that_decides_answers() -> None:
    """v2 gives an old job back for an old transaction ID, so whatever of a job decides answers is part of the ID."""
    spec = JobSpec(rules=tuple(Rule(**rule) for rule in RULES))
    others: dict[str, Any] = {
        "mode": "MULTIMODAL",
        "rules": spec.rules[:1],
        "parsing_configuration": ParsingConfiguration(lang="de"),
    }
    assert set(others) == {name for name in JobSpec.model_fields if not name.startswith("webhook_")}
    attempt = Attempt(AttemptKey(0, 1), Part(0), ("file-1",), (0,))
    specs = [spec, *(spec.model_copy(update={name: value}) for name, value in others.items())]
    no_client: Any = None
    assert len({ApiV2(no_client, each, "run").transaction_id(attempt) for each in specs}) == len(specs)


def test_the_manual_names_every_part() -> None:
    """The sections on `diff` and on settings name all that is compared."""
    manual = Path(classify_batch.__file__).parent / "manual"
    said = (manual / "commands.md").read_text().split("## classify-batch diff\n")[1].split("\n## ")[0]
    belongs = (manual / "settings.md").read_text().split("What decides the answers may not: ")[1].split("\n\n")[0]
    for text in (said, belongs):
        words = " ".join(text.split())
        assert [part.name for part in PARTS if part.name not in words] == []


# --- What a refused run is advised -----------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.key)
def test_reuse_is_offered_only_where_it_helps(part: Any) -> None:
    """A command that differs from the run is advised to reuse it where nothing differs that decides an answer."""
    run = RunFile(1, "r", "", Settings(**USUAL).to_stored(), Settings(**USUAL).identity(), 1, 0, 1, "")
    with pytest.raises(RunDirectoryError) as caught:
        refuse_other_run(run, Settings(**{**USUAL, **OTHERS[part.setting]}).identity(), "runs/a")
    assert f"{part.name} ({part.setting}): the run has " in str(caught.value)
    assert ("--reuse runs/a" in caught.value.hint) is not part.decides_answers


# --- Which runs fit for reuse -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "differing"),
    [
        ({}, []),
        ({"api_version": "v2", "project_id": "another", "ids_sha256": "x"}, []),
        ({"organization_id": "another"}, []),
        ({"rules": RULES[::-1]}, []),
        ({"parsing_configuration": {}}, []),
        ({"parsing_configuration": {"max_pages": 5, "target_pages": [], "lang": None}}, []),
        ({"escalation": None, "carry": []}, []),
        ({"rules": RULES[:1]}, ["rules"]),
        ({"rules": [RULES[0], {"type": "memo", "description": "is long"}]}, ["rules"]),
        ({"mode": "MULTIMODAL", "base_url": "https://b"}, ["base URL", "mode"]),
        ({"parsing_configuration": {"max_pages": 6}}, ["parsing configuration"]),
        ({"parsing_configuration": {"lang": "en"}}, ["parsing configuration"]),
        ({"parsing_configuration": {"target_pages": [0]}}, ["parsing configuration"]),
        ({"escalation": {"unmatched": True}}, ["second look"]),
        ({"carry": ["name"]}, []),
        ({"triage": {"accept_above": 0.5}}, []),
    ],
)
def test_runs_that_ask_the_same_fit_each_other(theirs: RunIdentity, differing: list[str]) -> None:
    """What decides the answers must be the same, however it is spelled; how the API is reached need not."""
    assert names_of_differences(IDENTITY, {**IDENTITY, **theirs}) == differing
    assert names_of_differences({**IDENTITY, **theirs}, IDENTITY) == differing


def test_the_order_of_target_pages_does_not_matter() -> None:
    """Pages are a set."""
    ours: RunIdentity = {"parsing_configuration": {"target_pages": [2, 0]}}
    theirs: RunIdentity = {"parsing_configuration": {"target_pages": [0, 2, 2]}}
    assert names_of_differences(ours, theirs) == []


def test_an_unset_max_pages_with_many_target_pages_fits_on_v2_only() -> None:
    """Where `max_pages` is unset, v2 is asked to read all that are named; what v1 reads of them, nobody says."""

    def told(version: str, parsing: StoredParsing) -> RunIdentity:
        return {**IDENTITY, "api_version": version, "parsing_configuration": {"target_pages": [*range(7)], **parsing}}

    v1, v2, five, seven = told("v1", {}), told("v2", {}), told("v1", {"max_pages": 5}), told("v1", {"max_pages": 7})
    for ours, theirs in ((v1, v1), (v2, v2), (v2, seven)):
        assert names_of_differences(ours, theirs) == []
    for ours, theirs in ((v1, v2), (v1, five), (v1, seven), (v2, five), (five, seven)):
        assert names_of_differences(ours, theirs) == ["parsing configuration"]


def test_a_version_that_is_not_known_is_compared_all_the_same() -> None:
    """A run of a version of the API that this program doesn't know is compared by what it says."""
    assert "v9" not in CAPABILITIES
    other: RunIdentity = {**IDENTITY, "api_version": "v9", "parsing_configuration": {"target_pages": [*range(7)]}}
    assert names_of_differences(other, other) == []
    assert names_of_differences(IDENTITY, other) == ["parsing configuration"]
