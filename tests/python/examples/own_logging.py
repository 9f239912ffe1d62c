import logging

from classify_batch import Settings, run

logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
handler = logging.StreamHandler()
handler.setFormatter(logging.Formatter("%(asctime)s %(run)s chunk=%(chunk)s job=%(job)s %(message)s"))
logger = logging.getLogger("classify_batch")
logger.addHandler(handler)
logger.setLevel(logging.DEBUG)
logger.propagate = False
run(Settings.load("my.toml"), "ids.txt", "runs/logged")
