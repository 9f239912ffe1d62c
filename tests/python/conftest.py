"""What the tests of the Python interface share: no key, no URL, and settings for the embedded sandbox."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLAMA_CLOUD_API_KEY", "LLAMA_CLOUD_API_KEY_FILE", "LLAMA_CLOUD_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
