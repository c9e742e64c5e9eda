"""The durable truth: every accepted message, until its last recipient is final.

Purpose   A message is answered 250 after the flush that covers its record, and is found again after
          any crash. The log is the queue; LMDB is only its index.
In        `Message`s to accept, outcomes to record, messages that nobody in memory needs.
Out       Calls when a record is durable; mail due for a next hop; mail past its lifetime.
Holds     One directory per shard: segments of the hot log and of the cold one (truth), the index
          (derived), a lock, large contents in files, copies of damaged regions. In memory: the live
          messages that somebody holds, one group of records being flushed while the next one fills,
          and of large contents what is not written yet, 16 MiB and one piece of each at most.
Never     Acknowledges before the flush; retries a failed flush; indexes beyond the durable
          position; appends to or truncates an old segment; reuses one before what is live in it
          is durable in the cold log; decides what is delivered when.
Fails     A group that could not be written or flushed goes to another segment, and is acknowledged
          when it is durable there; the spool is then not healthy until it has shown for a while
          that it works (`is_healthy`, `attach(on_health)`). If that fails too, `SpoolError` reaches
          each `done` of the group and of all that wait, nothing is written any more (`has_failed`),
          and the process should end: opening the shard again recovers. A failing index is moved
          aside and rebuilt from the log.
Why       Two groups of buffers and a committer without the GIL, because a busy loop starves every
          other thread. No lock on the path of a message, only eventfds. Positions grow for ever and
          every record carries its position and its segment's random epoch, so that the octets of a
          recycled file can never be taken for new ones. Damage is judged by proof: below a position
          that a later group or header states, it is rot; beyond, the torn end of the last group.
"""

from .option import Durability, SpoolOptions
from .problem import SpoolError, SpoolFormat, SpoolFull
from .spool import Spool
from .statistic import Statistics

__all__ = [
    "Durability",
    "Spool",
    "SpoolError",
    "SpoolFormat",
    "SpoolFull",
    "SpoolOptions",
    "Statistics",
]
