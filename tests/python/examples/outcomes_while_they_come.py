import asyncio

from classify_batch import Settings, stream


async def classify_and_store(file_ids: list[str]) -> None:
    async with stream(Settings.load("my.toml"), file_ids, "runs/streamed") as outcomes:
        async for outcome in outcomes:
            print(outcome.file_id, outcome.type)
    print(outcomes.result.state, outcomes.result.exit_status)


asyncio.run(classify_and_store(["file-1", "file-2"]))
