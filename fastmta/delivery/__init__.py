"""Mail out: from a job and its site to one outcome per recipient, over SMTP or LMTP.

Purpose   Say a message to a server of its site and tell apart what the servers answered.
In        Jobs with their content, sites with their targets and the way to them; TLS contexts,
          logins by name, a verdict on addresses (`ports`).
Out       `done(job, AttemptResult)`, exactly once per `start`, never from within `start`;
          a Notice for each server skipped, for each failure of our own, and, once a minute and
          relay, for a login that fails.
Holds     Open sessions by site (the pool), each with one dialog and at most one attempt; for 15
          minutes, bounded, which hosts failed at TLS that is only wished for.
Never     Decides when or how often to try, looks up names, touches the spool, sends a content with
          a lone CR or LF, or leaves a recipient without an outcome. Where the way requires TLS not
          an octet of a transaction or a login leaves in clear, and no login to a stranger.
Fails     Never raises into the loop or the caller: a failure of our own defers the job's open
          recipients and says so as a Notice of severity ERROR.
          A server without the TLS or the login that the way wants defers, for it is no verdict on
          the mail.
Why       `dialog` is the protocol without I/O and alone changes its state; `trouble` is the error
          policy in one place; `connection` moves octets; `pool` keeps sessions and the one clock;
          `tour` goes from target to target, and `account` calls each `done`.
          A reply beyond the last one owed closes the session, because the next message would be
          judged by it. 8-bit content goes to a server without 8BITMIME as it is, without BODY:
          we do not rewrite what others signed. Lines beyond 998 octets are folded all the same, as
          Postfix does: servers cut or refuse them. BDAT is off unless asked for: it saves no round
          trip, and a message of 4096 octets costs 10.7 us in memory instead of 5.1.
          TLS is a transport of its own (`secure`), so that a session in clear costs what it did.
          `dispatch` chooses the agent by transport: courier, `discard`, `error`, `hold`, or
          `filing` for directories. What a refusal means is data: replies.toml, read by `rulefile`,
          applied by `classify`.
"""

from .classify import Rules, Verdict, load_rules
from .courier import Courier
from .dispatch import Dispatch
from .filing import FileAgent
from .options import DeliveryOptions, TimeLimits
from .rulefile import RuleProblem

__all__ = [
    "Courier",
    "DeliveryOptions",
    "Dispatch",
    "FileAgent",
    "RuleProblem",
    "Rules",
    "TimeLimits",
    "Verdict",
    "load_rules",
]
