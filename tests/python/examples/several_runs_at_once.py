import asyncio

from classify_batch import Settings, SharedLimits, arun


async def classify_both() -> None:
    settings = Settings.load("my.toml")
    async with SharedLimits(requests_per_s=40, requests_in_flight=32) as limits:
        await asyncio.gather(
            arun(settings, "invoices.txt", "runs/invoices", shared_limits=limits),
            arun(settings, "contracts.txt", "runs/contracts", shared_limits=limits),
        )


asyncio.run(classify_both())
