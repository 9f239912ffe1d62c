"""Takes a planned run to its end: the one task group, the streams between the stages, and what goes into them."""

from classify_batch.orchestrator.orchestrator import Orchestrator as Orchestrator
from classify_batch.orchestrator.progress import Ending as Ending
from classify_batch.orchestrator.progress import Progress as Progress
