"""`classify-batch` and `python -m classify_batch`."""

import gc

from classify_batch.cli import signals

# Whatever is made while modules are imported stays: to look for cycles in it again and again takes a tenth of the
# start. This process is ours alone; who imports the package keeps thresholds of their own.
gc.set_threshold(10_000, 20, 50)

signals.install_handlers()

from classify_batch.cli.main import main  # noqa: E402 - the handlers stand before anything heavy is imported

if __name__ == "__main__":
    main()
