"""How fast and how much at once: the limits that every request and every job pass."""

from classify_batch.limits.gate import Gate as Gate
from classify_batch.limits.gate import GateSource as GateSource
from classify_batch.limits.gate import Headroom as Headroom
from classify_batch.limits.gate import Priority as Priority
from classify_batch.limits.job_slots import JobSlots as JobSlots
from classify_batch.limits.request_gate import RequestGate as RequestGate
