from classify_batch import Settings, run

settings = Settings.load("my.toml", limits={"jobs_in_flight": 50})
result = run(settings, file_ids=["file-1", "file-2"], run_dir="runs/from-python")

print(result.state, result.counts, result.exit_status)
for outcome in result.results():  # read line by line, nothing is held in memory
    print(outcome.file_id, outcome.type, outcome.confidence)
for failure in result.failures():
    print(failure.file_id, failure.code, failure.message)
