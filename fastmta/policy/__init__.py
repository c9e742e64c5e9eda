"""Who may relay what: the answers to MAIL and RCPT that do not depend on the protocol's state.

Purpose   Decide, per client and per address, whether mail is taken, and rewrite unqualified ones.
In        A client's address at connect; canonical paths at MAIL and RCPT.
Out       The path to store, or the `Reply` that refuses it.
Holds     The networks and domains of the configuration, indexed.
Never     Sockets, blocking look-ups, protocol state.
Fails     A bad network or domain is a `ValueError` at start.
Why       Rights are made once per connection: a trusted client costs nothing per recipient.
"""

from .relay import RelayPolicy, RelayRights

__all__ = ["RelayPolicy", "RelayRights"]
