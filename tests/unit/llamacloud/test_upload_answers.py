"""The answer to an upload says whose it is."""

from __future__ import annotations

import pytest

from classify_batch.llamacloud.file_client import names_another_content


@pytest.mark.parametrize(
    ("shown", "another"),
    [
        (None, False),
        ("", False),
        ("sha256-ab", False),
        (" SHA256-AB\n", False),
        ("inbox/a.pdf", False),
        ("sha256-a", False),
        ("sha256-ab:project-1", False),
        ("sha256-cd", True),
    ],
)
def test_an_upload_that_names_another_content_is_not_ours(shown: str | None, another: bool) -> None:
    """Taken for ours, one document would be answered under the other's name. A form of the server's own says
    nothing."""
    assert names_another_content(shown, "sha256-ab") is another
