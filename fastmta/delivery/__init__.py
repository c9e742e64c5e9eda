"""Mail out: from a job and its site to one outcome per recipient, over SMTP.

Purpose   Say a message to a server of its site and tell apart what the servers answered.
In        Jobs with their content, sites with their targets.
Out       `done(job, AttemptResult)`, exactly once per `start`, never from within `start`;
          a Notice for each server skipped and for each failure of our own.
Holds     Open sessions by site (the pool), each with one dialog and at most one attempt.
Never     Decides when or how often to try, looks up names, touches the spool, sends a content with
          a lone CR or LF, or leaves a recipient without an outcome.
Fails     Never raises into the loop or the caller: a failure of our own defers the job's open
          recipients and says so as a Notice of severity ERROR.
Why       `dialog` is the protocol without I/O and alone changes its state; `trouble` is the error
          policy in one place; `connection` moves octets; `pool` keeps sessions and the one clock.
          A reply beyond the last one owed closes the session, because the next message would be
          judged by it. 8-bit content goes to a server without 8BITMIME as it is, without BODY:
          we do not rewrite what others signed.
"""

from .courier import Courier
from .options import DeliveryOptions, TimeLimits

__all__ = ["Courier", "DeliveryOptions", "TimeLimits"]
