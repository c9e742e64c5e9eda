"""Outcomes to a delivery status notification, the report that goes back to a sender.

Purpose   One RFC 3464 message out of what became of a message's recipients: failed, late, delivered
          or relayed; and what a postmaster wants to be told.
In        A message with its content, and outcomes of its recipients; lines of the log.
Out       A new `Report` with null reverse-path, ready for the spool's front door; or None when
          there is nobody who could or would be told.
Holds     Our host name; what waits for the next notice to the postmaster, bounded.
Never     I/O, clocks, ids of its own; deciding which recipient has failed; reports about reports.
Fails     `ValueError` on use without content or outcomes.
Why       What the sender asked for by NOTIFY, RET, ENVID and ORCPT (RFC 3461 4) is kept to here.
          Replies, addresses, those values and the message are chosen by others: everything that is
          put into a header or report line goes through `text.plain` or its kin, which leave
          printable ASCII (of addresses in global reports, RFC 6533, harmless UTF-8) only, and the
          boundary is checked against what it must separate.
          Field names beginning with X-Postfix are what bounce parsers look for.
          One attempt makes one report: failed and delivered recipients share it (RFC 3464 2.3), so
          that the spool stores it in one record with the mark.
"""

from .bouncer import Bouncer
from .digest import Digest
from .options import NotifyOptions

__all__ = ["Bouncer", "Digest", "NotifyOptions"]
