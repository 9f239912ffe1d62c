import asyncio
import logging
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import polars

from classify_batch import ExitStatus, Settings, aexport, stream
from classify_batch.events import Event

log = logging.getLogger("nightly")


def note(event: Event) -> None:
    log.info("%s", event)


async def classify(date: str) -> ExitStatus:
    runs = Path("runs")
    runs.mkdir(exist_ok=True)
    settings, source = Settings.load("my.toml"), "s3://bucket/inbox.parquet"
    async with stream(settings, source, runs / date, column="id", reuse=[runs], observer=note) as outcomes:
        async for table in outcomes.tables():
            frame = polars.DataFrame(table)
            log.info("%d more: %s", frame.height, frame["type"].value_counts().rows())
    night = outcomes.result
    with closing(sqlite3.connect("nightly.db")) as database, database:
        database.execute("create table if not exists failed (file_id primary key, date, code, message)")
        rows = [(each.file_id, date, each.code, each.message) for each in night.failures()]
        database.executemany("insert or replace into failed values (?, ?, ?, ?)", rows)
    await aexport(night.run_dir, "s3://bucket/outcomes/", partition=[f"dt={date}"])
    return night.exit_status


logging.basicConfig(level=logging.INFO)
raise SystemExit(asyncio.run(classify(sys.argv[1])))
