"""The SHA-256 of a complete run's outputs, taken while the rest of the run is read."""

from __future__ import annotations

from classify_batch.ports import RunStore
from classify_batch.rundir.manifest_json import Manifest, read_manifest
from classify_batch.vocabulary import RunState


class OutputHashes:
    """Hashes what the manifest of a complete run names; nothing where there is no such manifest."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._manifest: Manifest | None = None
        self._sha256: dict[str, str] = {}

    async def hash_all_outputs(self) -> None:
        """Hashes all outputs. May be cancelled."""
        manifest = await read_manifest(self._store)
        if manifest is None or manifest["state"] != RunState.COMPLETE:
            return
        for name in manifest.get("outputs") or {}:
            self._sha256[name] = await self._store.sha256(name)
        self._manifest = manifest

    async def sha256(self, name: str, manifest: Manifest) -> str:
        """The hash of an output. `manifest`: as it was read last; an older one may have named older bytes."""
        return self._sha256[name] if manifest == self._manifest else await self._store.sha256(name)
