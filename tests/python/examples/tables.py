import polars

from classify_batch import open_run

night = open_run("runs/today")
frame = polars.DataFrame(night)
print(frame["type"].value_counts())
print(night.to_arrow(only="failed").num_rows)
