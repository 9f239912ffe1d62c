"""`classify-batch` and `python -m classify_batch`."""

from classify_batch.cli import signals

signals.install_handlers()

from classify_batch.cli.main import main  # noqa: E402 - the handlers stand before anything heavy is imported

if __name__ == "__main__":
    main()
