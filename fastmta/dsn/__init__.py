"""Outcomes to a delivery status notification, the report that goes back to a sender.

Purpose   One RFC 3464 message out of a message's failed recipients.
In        A message with its content, and the outcomes of the recipients that failed or expired.
Out       A new `Message` with null reverse-path, ready for the spool's front door; or None when
          there is nobody who could or would be told.
Holds     Our host name.
Never     I/O, clocks, ids of its own; deciding which recipient has failed; reports about reports.
Fails     `ValueError` on use without content or failures.
Why       What the sender asked for by NOTIFY, RET, ENVID and ORCPT (RFC 3461 4) is kept to here.
          Replies, addresses, those values and the message are chosen by others: everything that is
          put into a header or report line goes through `text.plain` or its kin, which leave
          printable ASCII only, and the boundary is checked against what it must separate.
          Field names beginning with X-Postfix are what bounce parsers look for.
"""

from .bouncer import Bouncer

__all__ = ["Bouncer"]
