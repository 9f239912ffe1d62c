from classify_batch import open_run

for outcome in open_run("runs/today").follow():
    print(outcome.file_id, outcome.type)
