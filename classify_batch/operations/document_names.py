"""By which paths a person knows the documents of a folder, whose IDs are hashes: for messages."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from anyio import to_thread

from classify_batch.inputs.folder import PATH_COLUMN, FolderOptions, FolderScan, find_documents, hash_documents
from classify_batch.rundir.plan import PlanReader


async def name_given(root: Path, options: FolderOptions, file_ids: Collection[str]) -> tuple[str, ...]:
    """The first paths in the folder of these contents. Reads the folder once more, up to the last of them."""
    return tuple(await to_thread.run_sync(_find_paths, root, options, set(file_ids)))


def _find_paths(root: Path, options: FolderOptions, wanted: set[str]) -> list[str]:
    scan, found = FolderScan(), []
    for path, file_id in hash_documents(root, find_documents(root, options, scan), scan):
        if not wanted:
            break
        if file_id in wanted:
            wanted.remove(file_id)
            found.append(path)
    return found


async def name_planned(plan: PlanReader, file_ids: Collection[str]) -> tuple[str, ...]:
    """The first paths of these contents in a plan."""
    wanted, found = set(file_ids), []
    for chunk in range(plan.chunks):
        if not wanted:
            break
        carried = await plan.carried(chunk)
        for file_id in wanted & carried.keys():
            wanted.remove(file_id)
            of_file = carried[file_id]
            found.append(str((of_file if isinstance(of_file, dict) else of_file[0]).get(PATH_COLUMN, file_id)))
    return tuple(sorted(found))
