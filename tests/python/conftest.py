"""What the tests of the Python interface share: no key, no URL, and settings for the embedded sandbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.command_line import KEY, sandbox


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLAMA_CLOUD_API_KEY", "LLAMA_CLOUD_API_KEY_FILE", "LLAMA_CLOUD_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A sandbox on a socket, whose jobs take 20 ms."""
    monkeypatch.setenv("LLAMA_CLOUD_API_KEY", KEY)
    with sandbox() as base_url:
        yield base_url
