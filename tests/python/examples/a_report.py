from classify_batch import report

page = report("runs/today", "today.html")
report(["runs/monday", "runs/tuesday"], "week.html", examples=False)
