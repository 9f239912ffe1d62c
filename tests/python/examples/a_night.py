import asyncio
import logging
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from classify_batch import ExitStatus, Settings, stream
from classify_batch.events import Event, JobFinished, Stopped, Warned

log = logging.getLogger("nightly")


def note(event: Event) -> None:
    match event:
        case JobFinished(chunk=chunk, status=status):
            log.info("chunk %d: %s", chunk, status)
        case Warned() | Stopped():
            log.warning("%s", event)


async def classify_tonight() -> ExitStatus:
    database = sqlite3.connect("documents.db")
    rows = [{"file_id": each, "name": name} for each, name in database.execute("select file_id, name from documents")]
    settings = Settings.load("my.toml", plan={"carry": ["name"]})
    directory = Path("runs") / datetime.now(UTC).date().isoformat()
    earlier = [each for each in sorted(Path("runs").glob("2*")) if each != directory]
    async with stream(settings, rows, directory, reuse=earlier, observer=note) as outcomes:
        async for each in outcomes:
            answer = (each.file_id, each.outcome, each.type, each.confidence, each.code)
            database.execute("insert or replace into outcomes values (?, ?, ?, ?, ?)", answer)
            database.commit()
    database.close()
    night = outcomes.result
    log.info("%s: %s, %s", night.state, night.counts, night.report())
    return night.exit_status


logging.basicConfig(level=logging.INFO)
raise SystemExit(asyncio.run(classify_tonight()))
