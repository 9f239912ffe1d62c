from classify_batch import cancel

result = cancel("runs/from-python")
print(result.state, result.exit_status, result.reason)
