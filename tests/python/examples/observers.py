from classify_batch import Settings, run
from classify_batch.events import Event, FilesCommitted, Warned


def show(event: Event) -> None:
    match event:
        case FilesCommitted(chunk=chunk, outcomes=outcomes):
            print(f"chunk {chunk}: {dict(outcomes)}")
        case Warned(message=message):
            print(f"warning: {message}")


run(Settings.load("my.toml"), "ids.txt", "runs/observed", observer=show)
