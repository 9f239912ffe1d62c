"""The environment: which variables are settings, and what an API key can't be."""

from __future__ import annotations

from pathlib import Path

import pytest

from classify_batch.errors import SettingsError
from classify_batch.settings import Settings, read_api_key
from classify_batch.settings.environment import is_service_link
from classify_batch.settings.host_names import find_host_error

KEY = "llx-S3cr3tS3cr3tS3cr3t"
RULES = [{"type": "invoice", "description": "has an invoice number and a total"}]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(("CLASSIFY_BATCH_", "LLAMA_CLOUD_")):
            monkeypatch.delenv(name)


def load() -> Settings:
    return Settings(job={"rules": RULES})


# --- Service links ----------------------------------------------------------------------------------------------------

LINKS = {
    "CLASSIFY_BATCH_SERVICE_HOST": "10.0.0.11",
    "CLASSIFY_BATCH_SERVICE_PORT": "8080",
    "CLASSIFY_BATCH_SERVICE_PORT_HTTP": "8080",
    "CLASSIFY_BATCH_SERVICE_PORT_HTTPS_METRICS": "8443",
    "CLASSIFY_BATCH_PORT": "tcp://10.0.0.11:8080",
    "CLASSIFY_BATCH_PORT_8080_TCP": "tcp://10.0.0.11:8080",
    "CLASSIFY_BATCH_PORT_8080_TCP_PROTO": "tcp",
    "CLASSIFY_BATCH_PORT_8080_TCP_PORT": "8080",
    "CLASSIFY_BATCH_PORT_8080_TCP_ADDR": "10.0.0.11",
    "CLASSIFY_BATCH_PORT_53_UDP": "udp://10.0.0.11:53",
    "CLASSIFY_BATCH_WEB_UI_SERVICE_HOST": "10.0.0.12",
    "CLASSIFY_BATCH_API_PORT": "tcp://[fd00::1]:80",
    "CLASSIFY_BATCH_API_PORT_80_TCP_ADDR": "fd00::1",
    "CLASSIFY_BATCH_LIMITS_SERVICE_PORT_HTTP": "80",
}


def test_kubernetes_service_links_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service whose name begins with classify-batch puts variables into every pod: none of them is a setting."""
    expected = load()
    for name, value in LINKS.items():
        assert is_service_link(name, value), name
        monkeypatch.setenv(name, value)
    assert load() == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLASSIFY_BATCH_PORT", "8080"),
        ("CLASSIFY_BATCH_PORTS", "tcp://10.0.0.11:8080"),
        ("CLASSIFY_BATCH_LIMITS_ATTEMPTS", "1"),
        ("CLASSIFY_BATCH_HOST", "10.0.0.11"),
        ("CLASSIFY_BATCH_SERVICE", "x"),
        ("CLASSIFY_BATCH_NOPE__SERVICE_HOST", "10.0.0.11"),
        ("CLASSIFY_BATCH__SERVICE_HOST", "10.0.0.11"),
        ("CLASSIFY_BATCH_PORT_TCP", "tcp://10.0.0.11:8080"),
        ("classify_batch_service_host", "10.0.0.11"),
        ("CLASSIFY_BATCH_DEBUG", "0"),
    ],
)
def test_other_unknown_variables_are_errors(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """They are slips, and are named."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load()


@pytest.mark.parametrize("name", ["CLASSIFY_BATCH_API_KEY", "CLASSIFY_BATCH_API__KEY", "CLASSIFY_BATCH_API__TOKEN"])
def test_a_key_in_the_wrong_variable_is_told_where_it_belongs(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The hint names the key's own variable, and the key is not shown."""
    monkeypatch.setenv(name, "llx-s3cr3t")
    with pytest.raises(SettingsError, match=name) as caught:
        load()
    assert "comes from LLAMA_CLOUD_API_KEY" in caught.value.hint
    assert "s3cr3t" not in f"{caught.value}{caught.value.hint}"


def test_a_key_in_a_config_is_told_where_it_belongs(tmp_path: Path) -> None:
    """The same, where it stands in the config; a rule's odd name says nothing of keys."""
    config = tmp_path / "c.toml"
    config.write_text('[api]\napi_key = "llx-s3cr3t"\n[job]\nrules = [{ type = "a/b", description = "0123456789" }]\n')
    with pytest.raises(SettingsError, match=r"line 2: api\.api_key: unknown setting") as caught:
        Settings.load(config)
    assert "comes from LLAMA_CLOUD_API_KEY" in caught.value.hint
    assert "s3cr3t" not in f"{caught.value}{caught.value.hint}"
    assert "job.rules.0.type: must have letters, digits, spaces, - and _ only (given: 'a/b')" in str(caught.value)
    config.write_text('[job]\nrules = [{ type = "a/b", description = "0123456789" }]\n')
    with pytest.raises(SettingsError) as caught:
        Settings.load(config)
    assert "API_KEY" not in caught.value.hint


def test_a_setting_that_looks_like_a_service_link_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two underscores behind a section: the name of a setting, and an error where there is none."""
    monkeypatch.setenv("CLASSIFY_BATCH_LIMITS__SERVICE_HOST", "10.0.0.11")
    with pytest.raises(SettingsError, match="CLASSIFY_BATCH_LIMITS__SERVICE_HOST"):
        load()


# --- Empty variables --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "CLASSIFY_BATCH_LIMITS__JOBS_IN_FLIGHT",
        "CLASSIFY_BATCH_API__PROJECT_ID",
        "CLASSIFY_BATCH_API__BASE_URL",
        "CLASSIFY_BATCH_API",
        "CLASSIFY_BATCH_JOB__RULES",
        "CLASSIFY_BATCH_JOB__PARSING_CONFIGURATION__LANG",
        "CLASSIFY_BATCH_ESCALATION",
        "CLASSIFY_BATCH_NOPE",
        "CLASSIFY_BATCH_PORT",
        "LLAMA_CLOUD_BASE_URL",
    ],
)
def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Schedulers and Compose files pass on what isn't set as nothing; a name of no setting does no harm then."""
    expected = load()
    monkeypatch.setenv(name, "")
    assert load() == expected


def test_an_empty_variable_leaves_the_file_its_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the config says counts, and an error in it is the config's."""
    config = tmp_path / "c.toml"
    config.write_text('[job]\nrules = [{ type = "a", description = "0123456789" }]\n[limits]\nattempts = 7\n')
    monkeypatch.setenv("CLASSIFY_BATCH_LIMITS__ATTEMPTS", "")
    assert Settings.load(config).limits.attempts == 7
    config.write_text(config.read_text().replace("7", "0"))
    with pytest.raises(SettingsError) as caught:
        Settings.load(config)
    assert "c.toml, line 4" in str(caught.value)


# --- The key ----------------------------------------------------------------------------------------------------------

ODD_KEYS = {
    f"LLAMA_CLOUD_API_KEY={KEY}": "an assignment",
    f"export LLAMA_CLOUD_API_KEY={KEY}": "an assignment",
    f'LLAMA_CLOUD_API_KEY = "{KEY}"': "an assignment",
    f'"{KEY}"': "quotes",
    f"'{KEY}'": "quotes",
    f'{KEY}"': "quotes",
    f"\ufeff{KEY}": "byte-order mark",
    f"Bearer {KEY}": "Bearer",
    f"# the key\n{KEY}": "several lines",
    f'{{"key":"{KEY}"}}': "characters that no key has",
    f"<{KEY}>": "characters that no key has",
    f"${{{KEY}}}": "characters that no key has",
}


@pytest.mark.parametrize("text", list(ODD_KEYS))
@pytest.mark.parametrize("by_file", [False, True])
def test_what_is_no_key_is_reported_and_not_shown(tmp_path: Path, text: str, by_file: bool) -> None:
    """A key file that holds an assignment, quotes, a byte-order mark: the API would only say 401."""
    file = tmp_path / "key"
    file.write_text(f"{text}\r\n", "utf-8")
    environ = {"LLAMA_CLOUD_API_KEY_FILE": str(file)} if by_file else {"LLAMA_CLOUD_API_KEY": text}
    with pytest.raises(SettingsError, match=ODD_KEYS[text]) as caught:
        read_api_key(load(), environ)
    assert KEY not in str(caught.value) + caught.value.hint
    assert not caught.value.hint.startswith("export")  # what to do about this slip comes first
    assert (str(file) if by_file else "LLAMA_CLOUD_API_KEY") in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_key_file_in_another_encoding_is_reported(tmp_path: Path, encoding: str) -> None:
    """PowerShell and Notepad write such files."""
    file = tmp_path / "key"
    file.write_text(KEY, encoding)
    with pytest.raises(SettingsError, match=r"not UTF-8|byte-order mark"):
        read_api_key(load(), {"LLAMA_CLOUD_API_KEY_FILE": str(file)})


@pytest.mark.parametrize("key", [KEY, "sk_live.abc~1+/x==", "abc==", "a:b", "k"])
def test_a_key_may_be_any_token(key: str) -> None:
    """Whatever a header can carry, but for what is surely a slip."""
    assert read_api_key(load(), {"LLAMA_CLOUD_API_KEY": key}).get_secret_value() == key


# --- Addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *("", ".", "ex..ample.com", ".example.com", "example..", "a" * 64, f"{'a' * 64}.com", ".".join(["a" * 60] * 5)),
        *("\u00ad", "ex\u00adample.com", "-a.com", "a-.com", "a b", "a\\b", "exa%6dple.com", "a\u200bb.com"),
        *("xn--a.com", "XN--.com"),
        *("256.1.1.1", "1.2.3", "12345", "::g", "fe80::1%eth0"),
    ],
)
def test_a_host_that_no_request_can_name_is_reported(host: str) -> None:
    """By the settings, before any resolver: in words that repeat nothing."""
    assert find_host_error(host)


@pytest.mark.parametrize(
    "host",
    ["api.cloud.llamaindex.ai", "localhost", "a.b.", "a_b.test", "xn--bcher-kva.de", "bücher.de", "::1", "a" * 63],
)
def test_other_hosts_are_left_to_the_resolver(host: str) -> None:
    """Names, IP addresses, names of other scripts."""
    assert find_host_error(host) is None


@pytest.mark.parametrize("host", ["ex..ample.com", f"{'a' * 64}.com", "\u00ad", "256.1.1.1", "a.test:0"])
def test_a_base_url_needs_a_host_that_can_be_asked_for(host: str) -> None:
    """From wherever it comes."""
    with pytest.raises(SettingsError, match="base_url"):
        Settings(job={"rules": RULES}, api={"base_url": f"https://{host}"})
