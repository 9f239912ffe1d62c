from classify_batch import Settings, check, plan, resume

settings = Settings.load("my.toml")
assert check(settings, "ids.txt").exit_status == 0
planned = plan(settings, "ids.txt", "runs/planned")
print(f"{planned.files} files, at most {planned.credits_max} credits")
resume(planned.run_dir)
