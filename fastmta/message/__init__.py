"""What a message is, from the moment it is received until its last recipient is final.

Purpose   The values that every later room passes on: envelope, message, recipient state, outcome.
In        Octets that `smtp` has parsed and a client's identity.
Out       Frozen values, and `Message`, the one object that lives as long as its mail is in memory.
Holds     Nothing: values only.
Never     I/O, clocks, policy.
Fails     Nothing here raises but on broken use (`ValueError`).
Why       Addresses are octets (`bytes`) all the way; text is made only for a human or a log.
"""

from .attempt import AttemptResult, Job
from .envelope import NULL_REVERSE_PATH, ClientIdentity, Envelope
from .file import ContentFile
from .message import Message
from .outcome import Outcome, OutcomeKind, Scope
from .recipient import RecipientState, RecipientStatus

__all__ = [
    "NULL_REVERSE_PATH",
    "AttemptResult",
    "ClientIdentity",
    "ContentFile",
    "Envelope",
    "Job",
    "Message",
    "Outcome",
    "OutcomeKind",
    "RecipientState",
    "RecipientStatus",
    "Scope",
]
