from classify_batch import ProgressLine, RunResult, Settings, arun


async def classify(file_ids: list[str]) -> RunResult:
    return await arun(Settings.load("my.toml"), file_ids, "runs/from-a-notebook", on_progress=ProgressLine())
