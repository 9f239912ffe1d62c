"""Documents and the file IDs that the API gives them."""

from __future__ import annotations

from classify_batch.engine.uploader import refuse_shared_ids


def test_two_contents_never_share_a_file_id() -> None:
    """One answer would be both documents', and the other's would be lost."""
    upper, lower = "0A6B7C1E-3D2F-4A5B-8C9D-0E1F2A3B4C5D", "0a6b7c1e-3d2f-4a5b-8c9d-0e1f2a3b4c5d"
    assert refuse_shared_ids({"sha256:a": upper, "sha256:b": "f-1"}) == {}
    shared = refuse_shared_ids({"sha256:a": upper, "sha256:b": "f-1", "sha256:c": lower, "sha256:d": "f-1"})
    assert shared.keys() == {"sha256:c", "sha256:d"}
