"""How much at once and how fast: what every request and every job must pass."""

from classify_batch.gate.gate import Gate as Gate
from classify_batch.gate.gate import Room as Room
from classify_batch.gate.gate import Turn as Turn
from classify_batch.gate.slots import Slots as Slots
