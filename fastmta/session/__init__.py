"""One inbound SMTP session, without I/O.

Purpose   Speak RFC 5321 as a server: commands to replies, content to durable messages.
In        Octets as they arrive, in any pieces; the spool's answers.
Out       Octets to write; messages through `Accept`; events through `emit`.
Holds     The state of one session and its open transaction.
Never     Sockets, timers, clocks of its own, disk. No reply 250 to content before `Accept` said so.
Fails     Bad input is answered and changes nothing, or closes the session; nothing is raised.
Why       The table in `state.py` is the protocol: whoever wants to know what is legal reads that.
"""

from .port import Accept, Clock, Policy, Ports, Rights, Spill
from .room import ContentRoom
from .session import Session
from .settings import SessionSettings
from .state import State

__all__ = [
    "Accept",
    "Clock",
    "ContentRoom",
    "Policy",
    "Ports",
    "Rights",
    "Session",
    "SessionSettings",
    "Spill",
    "State",
]
