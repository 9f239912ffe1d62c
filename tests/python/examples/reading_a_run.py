from classify_batch import open_run

night = open_run("runs/today")
print(night.state, night.counts, night.types)
print(night.status.get("time_left_s"))  # as `classify-batch status --json`
for failed in night.outcomes(only="failed"):
    print(failed.file_id, failed.code, failed.message)
night.report()
