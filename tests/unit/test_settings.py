"""What settings a run takes: accepted and refused values, where an error stands, and that secrets stay masked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from classify_batch.errors import SettingsError
from classify_batch.rundir.cost import estimate_cost_max
from classify_batch.settings import Settings, find_line_of_value, read_api_key
from classify_batch.settings.error_places import variable_inside
from classify_batch.settings.job_spec import Language

RULE = {"type": "invoice", "description": "has an invoice number and a total"}
JOB = {"rules": [RULE]}
SECRET = "llx-s3cr3t"
TOML_RULE = '{ type = "invoice", description = "has line items and a total" }'

DOCUMENTED = (
    "af az bs cs cy da de en es et fr ga hr hu id is it ku la lt lv mi ms mt nl no oc pi pl pt ro rs_latin sk sl sq "
    "sv sw tl tr uz vi ar fa ug ur bn as mni ru rs_cyrillic be bg uk mn abq ady kbd ava dar inh che lbe lez tab tjk "
    "hi mr ne bh mai ang bho mah sck new gom sa bgc th ch_sim ch_tra ja ko ta te kn"
)
LANGUAGES = DOCUMENTED.split()


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLAMA_CLOUD_API_KEY", "LLAMA_CLOUD_API_KEY_FILE", "LLAMA_CLOUD_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def with_job(**values: Any) -> Settings:
    return Settings(job={**JOB, **values})


def refusal(config: Path, text: str, **options: Any) -> str:
    """What is said about a config with this text."""
    config.write_text(text)
    with pytest.raises(SettingsError) as caught:
        Settings.load(config, **options)
    assert caught.value.hint
    return str(caught.value)


# --- The vocabulary of the API ------------------------------------------------------------------------------


def test_the_languages_are_the_documented_ones() -> None:
    """The 86 languages are those of the API's documentation, each once."""
    assert get_args(Language) == tuple(LANGUAGES)
    assert len(set(LANGUAGES)) == 86


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_language_is_accepted(lang: str) -> None:
    """Each documented language is taken as it is."""
    parsing = with_job(parsing_configuration={"lang": lang}).job.parsing_configuration
    assert parsing is not None
    assert parsing.lang == lang


@pytest.mark.parametrize("lang", ["", "EN", "eng", "en-US", "zh", "rs", "ch", "xx"])
def test_any_other_language_is_refused(lang: str) -> None:
    """What the API doesn't list as a language is refused before it is sent."""
    with pytest.raises(SettingsError, match=r"job\.parsing_configuration\.lang"):
        with_job(parsing_configuration={"lang": lang})


def test_both_modes_are_accepted_and_fast_is_the_default() -> None:
    """Both modes are accepted, FAST is the default, and no other word is."""
    assert with_job().job.mode == "FAST"
    assert [with_job(mode=mode).job.mode for mode in ("FAST", "MULTIMODAL")] == ["FAST", "MULTIMODAL"]
    for mode in ("fast", "", "SLOW"):
        with pytest.raises(SettingsError, match=r"job\.mode"):
            with_job(mode=mode)


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({"type": "a"}, True),
        ({"type": "a" * 50}, True),
        ({"type": "Az 09_-"}, True),
        ({"type": ""}, False),
        ({"type": "a" * 51}, False),
        ({"type": "a/b"}, False),
        ({"type": "é"}, False),
        ({"type": "a\n"}, False),
        ({"description": "d" * 10}, True),
        ({"description": "d" * 500}, True),
        ({"description": "é" * 500}, True),
        ({"description": "d" * 9}, False),
        ({"description": "d" * 2000}, True),
        ({"description": "d" * 2001}, False),
        ({"colour": "red"}, False),
    ],
)
def test_the_documented_limits_of_a_rule(rule: Mapping[str, str], *, fits: bool) -> None:
    """A rule is accepted up to the very edges of what the API documents, and refused one step beyond."""
    job = {"rules": [{**RULE, **rule}]}
    if fits:
        assert Settings(job=job).job.rules[0].model_dump() == {**RULE, **rule}
    else:
        with pytest.raises(SettingsError, match=r"job\.rules\.0"):
            Settings(job=job)


def test_v2_allows_shorter_descriptions() -> None:
    """One reference of v1 allows 2,000 characters, those of v2 allow 500."""
    with pytest.raises(SettingsError, match=r"job\.rules\.0\.description.*501 characters.*500"):
        Settings(api={"version": "v2"}, job={"rules": [{**RULE, "description": "d" * 501}]})
    Settings(api={"version": "v2"}, job={"rules": [{**RULE, "description": "d" * 500}]})


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_description_that_is_too_long_is_told_once_for_all(version: str) -> None:
    """Who shortens it to what one version allows must not hear of the other's bound then."""
    words = r"2,001 characters, and the API allows 2,000 on v1, 500 on v2"
    with pytest.raises(SettingsError, match=words):
        Settings(api={"version": version}, job={"rules": [{**RULE, "description": "d" * 2001}]})


def test_a_signing_secret_is_shown_and_stored_nowhere() -> None:
    """It is a secret like a header: masked in every repr and dump, and a stored run asks for the config again."""
    webhook = {"webhook_url": "https://hooks.test/in", "webhook_signing_secret": "s3cr3t-of-ours"}
    settings = Settings(job={**JOB, "webhook_configurations": [webhook]})
    for shown in (repr(settings), json.dumps(settings.to_stored())):
        assert "s3cr3t-of-ours" not in shown
    with pytest.raises(SettingsError, match="not stored in a run directory"):
        Settings.from_stored(settings.to_stored())


@pytest.mark.parametrize(
    ("webhook", "named"),
    [
        ({"webhook_signing_secret": ""}, "webhook_signing_secret"),
        ({"webhook_output_format": "xml"}, "webhook_output_format"),
        ({"webhook_secret": "x"}, "webhook_secret"),
    ],
)
def test_webhooks_that_the_api_would_refuse(webhook: Mapping[str, str], named: str) -> None:
    """What the API documents no such field or value for is refused before it is sent."""
    with pytest.raises(SettingsError, match=named):
        Settings(job={**JOB, "webhook_configurations": [{"webhook_url": "https://hooks.test/in", **webhook}]})


def test_only_v2_keeps_webhooks() -> None:
    """v1 has no such field: it would ignore the IDs, and nobody would notice."""
    Settings(api={"version": "v2"}, job={**JOB, "webhook_configuration_ids": ["whk-1"]})
    with pytest.raises(SettingsError, match=r"job\.webhook_configuration_ids.*v1.*keeps no webhooks"):
        Settings(job={**JOB, "webhook_configuration_ids": ["whk-1"]})


def test_rule_types_are_unique() -> None:
    """Two rules of one type are refused, and the type is named."""
    with pytest.raises(SettingsError, match=r"more than once: invoice"):
        with_job(rules=[RULE, {**RULE, "description": "another description"}, {**RULE, "type": "contract"}])


@pytest.mark.parametrize(("files", "fits"), [(0, False), (1, True), (500, True), (501, False), (True, False)])
def test_a_job_takes_1_to_500_files(files: int, *, fits: bool) -> None:
    """A job takes 1 to 500 files, and `true` is not the number 1."""
    if fits:
        assert Settings(job=JOB, plan={"files_per_job": files}).plan.files_per_job == files
    else:
        with pytest.raises(SettingsError, match=r"plan\.files_per_job"):
            Settings(job=JOB, plan={"files_per_job": files})


@pytest.mark.parametrize("value", [True, False, float("inf"), float("nan"), 0, -1, "fast", []])
def test_a_rate_is_a_positive_finite_number(value: object) -> None:
    """No truth value, infinity, zero or word stands for a rate."""
    with pytest.raises(SettingsError, match=r"limits\.requests_per_s"):
        Settings(job=JOB, limits={"requests_per_s": value})


def test_ranges_are_generous() -> None:
    """A thousand jobs in flight and thousands of requests a second can be asked for."""
    limits = Settings(job=JOB, limits={"jobs_in_flight": 1000, "requests_in_flight": 1000, "requests_per_s": 5000})
    assert (limits.limits.jobs_in_flight, limits.limits.requests_per_s) == (1000, 5000.0)


# --- Where the API is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "taken_as"),
    [
        ("sandbox", "sandbox"),
        ("https://api.cloud.eu.llamaindex.ai/", "https://api.cloud.eu.llamaindex.ai"),
        ("https://host:8443/prefix", "https://host:8443/prefix"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        (" https://host ", "https://host"),
    ],
)
def test_base_urls_that_are_accepted(base_url: str, taken_as: str) -> None:
    """HTTPS anywhere, plain HTTP to this machine only; a last slash makes no other API."""
    assert Settings(job=JOB, api={"base_url": base_url}).api.base_url == taken_as


@pytest.mark.parametrize(
    "base_url",
    [
        "http://example.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://192.168.0.1",
        "http://0.0.0.0",
        "http://localhost@example.com",
        f"https://user:{SECRET}@host",
        "https://host?x=1",
        "https://host#x",
        "https://host:port",
        "https://",
        "ftp://host",
        "host",
        "",
    ],
)
def test_base_urls_that_are_refused(base_url: str) -> None:
    """The key never leaves in the clear or to a half-read address, and a password in the URL is not repeated."""
    with pytest.raises(SettingsError, match=r"api\.base_url") as caught:
        Settings(job=JOB, api={"base_url": base_url})
    assert SECRET not in str(caught.value)


def test_webhooks_are_https() -> None:
    """Webhook headers don't travel in the clear either."""
    with pytest.raises(SettingsError, match="https://"):
        with_job(webhook_configurations=[{"webhook_url": "http://host"}])


# --- Where things come from -----------------------------------------------------------------------------------


def test_options_override_environment_file_and_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Option over CLASSIFY_BATCH_… over LLAMA_CLOUD_BASE_URL over the file over the default."""
    config = tmp_path / "c.toml"
    config.write_text('[job]\nrules = [{ type = "a", description = "0123456789" }]\n')

    def base_url(**options: Any) -> str:
        return Settings.load(config, **options).api.base_url

    assert base_url() == "https://api.cloud.llamaindex.ai"
    config.write_text(config.read_text() + '[api]\nbase_url = "https://file"\n')
    assert base_url() == "https://file"
    monkeypatch.setenv("LLAMA_CLOUD_BASE_URL", "https://vendor")
    assert base_url() == "https://vendor"
    monkeypatch.setenv("CLASSIFY_BATCH_API__BASE_URL", "https://ours")
    assert base_url() == "https://ours"
    assert base_url(api={"base_url": "https://option"}) == "https://option"


def test_nested_values_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any value can come from the environment, lists and tables as JSON, and merges with the rest of its section."""
    monkeypatch.setenv("CLASSIFY_BATCH_LIMITS__JOBS_IN_FLIGHT", "50")
    monkeypatch.setenv("CLASSIFY_BATCH_JOB__RULES", '[{"type": "letter", "description": "has a salutation"}]')
    monkeypatch.setenv("CLASSIFY_BATCH_JOB__PARSING_CONFIGURATION__LANG", "de")
    settings = Settings(limits={"attempts": 2})
    assert (settings.limits.jobs_in_flight, settings.limits.attempts) == (50, 2)
    assert settings.job.rules[0].type == "letter"
    assert settings.job.parsing_configuration is not None
    assert settings.job.parsing_configuration.lang == "de"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CLASSIFY_BATCH_PLAN__FILES_PER_JOB", "501", "CLASSIFY_BATCH_PLAN__FILES_PER_JOB in the environment"),
        ("CLASSIFY_BATCH_LIMITS__NOPE", "1", "CLASSIFY_BATCH_LIMITS__NOPE in the environment"),
        ("CLASSIFY_BATCH_NOPE__X", "1", "CLASSIFY_BATCH_NOPE__X"),
        ("CLASSIFY_BATCH_LIMITS_ATTEMPTS", "1", "CLASSIFY_BATCH_LIMITS_ATTEMPTS"),
        ("CLASSIFY_BATCH_JOB__RULES", "[{", "CLASSIFY_BATCH_JOB__RULES"),
        ("CLASSIFY_BATCH_JOB", "x", "CLASSIFY_BATCH_JOB"),
        ("CLASSIFY_BATCH_JOB__RULES", "x", "can't be read: CLASSIFY_BATCH_JOB__RULES"),
        pytest.param("CLASSIFY_BATCH_LIMITS", "[" * 100_000, "can't be read: CLASSIFY_BATCH_LIMITS", id="deep section"),
        pytest.param("CLASSIFY_BATCH_JOB__RULES", "[" * 100_000, "can't be read: CLASSIFY_BATCH_JOB__RULES", id="deep"),
        ("CLASSIFY_BATCH_JOB__RULES__0__TYPE", "a", "CLASSIFY_BATCH_JOB__RULES__0__TYPE in the environment: job.rules"),
        ("CLASSIFY_BATCH_ACCOUNTS__0__NAME", "a", "CLASSIFY_BATCH_ACCOUNTS__0__NAME in the environment: accounts"),
        ("CLASSIFY_BATCH_JOB", '{"mode": "SLOW"}', "CLASSIFY_BATCH_JOB in the environment: job.mode"),
        (
            "CLASSIFY_BATCH_JOB__RULES",
            '[{"type": "a", "description": "short"}]',
            "CLASSIFY_BATCH_JOB__RULES in the environment: job.rules.0.description",
        ),
        ("LLAMA_CLOUD_BASE_URL", "http://example.com", "LLAMA_CLOUD_BASE_URL in the environment"),
    ],
)
def test_a_fault_of_the_environment_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    """A wrong variable is named as such, and no line of a file that is right is blamed."""
    monkeypatch.setenv(name, value)
    said = refusal(tmp_path / "c.toml", '[job]\nrules = [{ type = "a", description = "0123456789" }]\n')
    assert words in said
    assert "c.toml" not in said


def test_a_table_of_the_file_is_not_blamed_on_a_variable_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with a table may as well come from the file; a table that isn't there comes from the variable."""
    monkeypatch.setenv(name := "CLASSIFY_BATCH_JOB__PARSING_CONFIGURATION__LANG", "de")
    where = ("job", "parsing_configuration")
    assert variable_inside(where, {"job": {"parsing_configuration": {"target_pages": "1"}}}) is None
    assert variable_inside(where, {"job": {}}) == name


def test_a_config_that_python_can_not_take_is_refused(tmp_path: Path) -> None:
    """Lists in lists without an end, and a number of thousands of digits: 2, with the file's name."""
    for value in ("[" * 100_000, "9" * 5000):
        assert "c.toml can't be read: it holds a number" in refusal(tmp_path / "c.toml", f"x = {value}\n")


def test_a_fault_of_an_option_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    """A wrong option is reported as one, also where the file and the environment have the same setting."""
    text = '[job]\nrules = [{ type = "a", description = "0123456789" }]\n[plan]\nfiles_per_job = 1\n'
    said = refusal(tmp_path / "c.toml", text, plan={"files_per_job": 0})
    assert said.startswith("given as an option: plan.files_per_job: ")


# --- Where a fault stands -------------------------------------------------------------------------------------

INLINE = """\
# a comment with a { brace
[api]
base_url = "https://host"   # and [another

[job]
mode = "FAST"
rules = [
  { type = "a", description = "with } and ] inside" },
  # { type = "commented out" },
  { type = "b",
    description = "on two lines" }, { type = "c", description = '{' },
]
parsing_configuration = { target_pages = [0, 1] }
"""

TABLES = """\
[[job.rules]]
type = "a"
description = "first"

[[ job.rules ]]
type = "b"
description = "second"

[job.parsing_configuration]
lang = "en"

[ limits ] # spaced
"settle_s" = 3
plan.files_per_job = 3
"""


@pytest.mark.parametrize(
    ("text", "where", "line"),
    [
        (INLINE, ("api",), 2),
        (INLINE, ("api", "base_url"), 3),
        (INLINE, ("api", "absent"), 2),
        (INLINE, ("job", "mode"), 6),
        (INLINE, ("job", "rules"), 7),
        (INLINE, ("job", "rules", 0), 8),
        (INLINE, ("job", "rules", 0, "type"), 8),
        (INLINE, ("job", "rules", 1, "description"), 10),
        (INLINE, ("job", "rules", 2, "type"), 11),
        (INLINE, ("job", "parsing_configuration", "target_pages", 1), 13),
        (INLINE, ("limits", "attempts"), None),
        (TABLES, ("job", "rules", 0, "description"), 3),
        (TABLES, ("job", "rules", 1), 5),
        (TABLES, ("job", "rules", 1, "description"), 7),
        (TABLES, ("job", "parsing_configuration", "lang"), 10),
        (TABLES, ("limits",), 12),
        (TABLES, ("limits", "settle_s"), 13),
        (TABLES.replace("\n", "\r\n"), ("job", "rules", 1, "type"), 6),
        ("a = 1\n# \u2028 is no new line\nb = 2\n", ("b",), 3),
        ("", ("job",), None),
    ],
)
def test_an_error_names_the_line_of_its_value(text: str, where: tuple[str | int, ...], line: int | None) -> None:
    """The line of a value, in inline arrays and in arrays of tables, as an editor counts it."""
    assert find_line_of_value(text, where) == line


def test_all_errors_of_a_config_are_in_one_message(tmp_path: Path) -> None:
    """Every error of a config is reported at once, each with its line, and none twice."""
    text = """\
[api]
nope = 1
[job]
mode = "SLOW"
rules = [
  { type = "a", description = "short" },
  { type = "b/c", description = "long enough to be one" },
]
[plan]
files_per_job = 501
[limits]
attempts = "many"
requests_per_s = true
[nopes]
"""
    said = refusal(tmp_path / "c.toml", text).splitlines()
    assert said[0] == "8 faults in the settings"
    told = sorted((int(line.split(" line ")[1].split(":")[0]), line.split(": ")[1]) for line in said[1:])
    assert told == [
        (2, "api.nope"),
        (4, "job.mode"),
        (6, "job.rules.0.description"),
        (7, "job.rules.1.type"),
        (10, "plan.files_per_job"),
        (12, "limits.attempts"),
        (13, "limits.requests_per_s"),
        (14, "nopes"),
    ]
    assert all(line.startswith(f"  {tmp_path / 'c.toml'}, line ") for line in said[1:])


# --- Secrets --------------------------------------------------------------------------------------------------


def test_webhook_headers_are_masked() -> None:
    """Webhook headers are in no repr, no string and nothing that is stored."""
    webhook = {"webhook_url": "https://host", "webhook_headers": {"X-Token": SECRET}}
    settings = with_job(webhook_configurations=[webhook])
    for text in (
        repr(settings),
        str(settings),
        f"{settings.job}",
        str(settings.to_stored()),
        settings.model_dump_json(),
    ):
        assert SECRET not in text
    headers = settings.job.webhook_configurations[0].webhook_headers
    assert headers is not None
    assert headers["X-Token"].get_secret_value() == SECRET


def test_a_key_in_the_config_is_refused_and_not_repeated(tmp_path: Path) -> None:
    """A key in a config is refused as no setting, without showing it."""
    said = refusal(tmp_path / "c.toml", f'[api]\napi_key = "{SECRET}"\n[job]\nkey = "{SECRET}"\n')
    assert "api.api_key: unknown setting" in said
    assert SECRET not in said


def test_the_key_from_the_variable_or_the_file(tmp_path: Path) -> None:
    """The variable wins over the file, and both are stripped of blanks at their ends."""
    file = tmp_path / "key"
    file.write_text(f"{SECRET}\n")
    settings = with_job()
    by_file = {"LLAMA_CLOUD_API_KEY_FILE": str(file)}
    assert read_api_key(settings, by_file).get_secret_value() == SECRET
    assert read_api_key(settings, {**by_file, "LLAMA_CLOUD_API_KEY": " "}).get_secret_value() == SECRET
    assert read_api_key(settings, {**by_file, "LLAMA_CLOUD_API_KEY": " k "}).get_secret_value() == "k"
    assert SECRET not in repr(read_api_key(settings, by_file))


@pytest.mark.parametrize("key", ["", " ", f"{SECRET} {SECRET}", f"{SECRET}\n{SECRET}", f"{SECRET}é", f"{SECRET}\x00"])
def test_an_unusable_key_is_refused_without_showing_it(key: str) -> None:
    """No key, or one that no header can carry, is refused without showing it."""
    with pytest.raises(SettingsError) as caught:
        read_api_key(with_job(), {"LLAMA_CLOUD_API_KEY": key})
    assert SECRET not in str(caught.value)
    assert "LLAMA_CLOUD_API_KEY" in caught.value.hint


# --- run.json -------------------------------------------------------------------------------------------------


def test_settings_survive_run_json() -> None:
    """What run.json keeps of the settings gives the same settings and identity again, and options still win."""
    settings = Settings(
        api={"base_url": "https://host", "project_id": "p"},
        job={**JOB, "mode": "MULTIMODAL", "parsing_configuration": {"lang": "de", "target_pages": [0, 3]}},
        limits={"settle_s": 0},
        sandbox={"documents": "somewhere"},
    )
    again = Settings.from_stored(settings.to_stored())
    assert again == settings
    assert again.identity() == settings.identity()
    assert Settings.from_stored(settings.to_stored(), limits={"settle_s": 3}).limits.settle_s == 3


def test_limits_are_no_part_of_the_identity() -> None:
    """Limits and the size of jobs may change between resumes; rules, mode, parsing and address may not."""
    same = with_job().identity()
    assert Settings(job=JOB, limits={"attempts": 9}, plan={"files_per_job": 7}).identity() == same
    for other in (
        with_job(mode="MULTIMODAL"),
        with_job(rules=[{**RULE, "description": "another description"}]),
        with_job(parsing_configuration={"max_pages": 3}),
        Settings(job=JOB, api={"base_url": "https://host"}),
        Settings(job=JOB, api={"project_id": "p"}),
        Settings(job=JOB, api={"organization_id": "o"}),
        Settings(job=JOB, escalation={"unmatched": True}),
        Settings(job=JOB, triage={"accept_above": 0.5}),
        Settings(job=JOB, plan={"carry": ["path"]}),
    ):
        assert other.identity() != same


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[escalation]\nmode = "MULTIMODAL"\n', ["line 4", "escalation: it names no answer to look at again"]),
        ('[escalation]\nunmatched = true\nmode = "FAST"\n', ["line 6", "the first look is in this mode already"]),
        ("[escalation]\nbelow_confidence = 1.5\n", ["line 5", "escalation.below_confidence"]),
        ("[escalation]\nunmatched = 7\n", ["line 5", "escalation.unmatched"]),
        ("[triage]\naccept_above = true\n", ["line 5", "triage.accept_above", "true and false mean nothing here"]),
        ("[triage]\nby_type = { invoice = 0.5 }\n", ["triage.accept_above: missing"]),
        ("[triage]\naccept_above = 0.5\nby_type = { bill = 0.5 }\n", ["line 6", "no rule has the type 'bill'"]),
        ("[limits]\nmax_credits = -1\n", ["line 5", "limits.max_credits"]),
        ("[price]\ncredits_per_page = { SLOW = 1 }\n", ["price.credits_per_page.SLOW: unknown setting"]),
        (
            '[escalation]\nmode = "FAST"\n[triage]\naccept_above = 0.5\nby_type = { bill = 0.5 }\n',
            ["3 faults", "it names no answer", "in this mode already", "no rule has the type"],
        ),
    ],
)
def test_sections_that_say_what_can_not_be(tmp_path: Path, text: str, words: list[str]) -> None:
    """A second look at nothing, in the same mode, thresholds of no rule: reported by line, all at once."""
    said = refusal(tmp_path / "c.toml", f'[job]\nmode = "FAST"\nrules = [{TOML_RULE}]\n{text}')
    for each in words:
        assert each in said


def test_a_second_look_is_v1s() -> None:
    """v2 knows one mode."""
    with pytest.raises(SettingsError, match="escalation: v2"):
        Settings(job=JOB, api={"version": "v2"}, escalation={"unmatched": True})


def test_what_the_create_calls_say() -> None:
    """At the first look, and at the second."""
    settings = Settings(job=JOB, escalation={"unmatched": True})
    assert settings.specs.second is not None
    assert (settings.specs.first.mode, settings.specs.second.mode) == ("FAST", "MULTIMODAL")
    assert settings.specs.second.rules == settings.job.rules
    assert with_job().specs.second is None


@pytest.mark.parametrize(
    ("sections", "pages", "credits", "dollars"),
    [
        ({}, 500, 500, 0.625),
        ({"job": {**JOB, "mode": "MULTIMODAL"}}, 500, 1000, 1.25),
        ({"job": {**JOB, "parsing_configuration": {"max_pages": 2}}}, 200, 200, 0.25),
        ({"job": {**JOB, "parsing_configuration": {"target_pages": [0, 3, 3]}}}, 200, 200, 0.25),
        ({"job": {**JOB, "parsing_configuration": {"target_pages": []}}}, 500, 500, 0.625),
        ({"job": {**JOB, "parsing_configuration": {"target_pages": [*range(8), 7]}}}, 800, 800, 1.0),
        ({"job": {**JOB, "parsing_configuration": {"target_pages": [*range(8)], "max_pages": 6}}}, 600, 600, 0.75),
        ({"job": {**JOB, "parsing_configuration": {"target_pages": [*range(8)], "max_pages": 9}}}, 800, 800, 1.0),
        ({"escalation": {"unmatched": True}}, 1000, 1500, 1.875),
        ({"price": {"credits_per_page": {"FAST": 0.5}, "dollars_per_credit": 2}}, 500, 250, 500),
    ],
)
def test_the_most_that_files_can_cost(sections: dict[str, Any], pages: int, credits: float, dollars: float) -> None:
    """A hundred of them: pages that may be read, at every look, by the rates that are set. Where `target_pages` stands
    alone, no source says that only 5 of them are read: all are reckoned with."""
    cost = estimate_cost_max(100, Settings(**{"job": JOB, **sections}))
    assert (cost.pages, cost.credits) == (pages, credits)
    assert cost.dollars == pytest.approx(dollars)


def test_webhook_headers_are_missed_on_resume() -> None:
    """A run with webhook headers can't be taken up from run.json alone, and the hint says what helps."""
    webhook = {"webhook_url": "https://host", "webhook_headers": {"X-Token": SECRET}}
    stored = with_job(webhook_configurations=[webhook]).to_stored()
    with pytest.raises(SettingsError) as caught:
        Settings.from_stored(stored)
    assert "--config" in caught.value.hint


def test_settings_are_frozen() -> None:
    """Settings can't change under a run."""
    with pytest.raises(ValueError, match="frozen"):
        with_job().limits.attempts = 5  # type: ignore[misc]
