"""Makes the mail that we write ourselves: to senders, and to the postmaster.

Nobody is told of the fate of a report: it has a null reverse-path, and what goes to the postmaster
says NOTIFY=NEVER besides, which stays true over a restart. So there is no notice about a notice.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter

from fastmta.message import (
    NULL_REVERSE_PATH,
    ClientIdentity,
    ContentFile,
    Envelope,
    Message,
    Outcome,
)
from fastmta.message.envelope import DSNRequest
from fastmta.message.report import (
    DELAY,
    NON_DELIVERY,
    POSTMASTER_DELAY,
    POSTMASTER_NON_DELIVERY,
    POSTMASTER_NOTICE,
    PROBED,
    SUCCESS,
    Report,
)

from . import options as wanted
from .frame import Frame, frame
from .options import NotifyOptions
from .report import delivery_report, notification, original
from .story import Story, form_of
from .text import plain
from .wording import NOTICE, NOTICE_SUBJECT, SUBJECTS

Facts = Sequence[tuple[int, Outcome]]
_NEVER = DSNRequest(notify=("NEVER",))
_FAILURE, _SUCCESS, _DELAY = "FAILURE", "SUCCESS", "DELAY"
_LINE_CHARACTERS_MAX = 900  # of a line of the log in a notice


class Bouncer:
    """Knows who reports, and makes reports."""

    def __init__(
        self,
        hostname: str,
        new_id: Callable[[], bytes],
        wall_ns: Callable[[], int],
        queue_ns: Callable[[], int],
        head: Callable[[ContentFile, int], bytes] | None = None,
        options: NotifyOptions | None = None,
    ) -> None:
        """`new_id` gives a spool id; what is in fields is by `wall_ns`, what ages by `queue_ns`.

        `head(file, n)` gives the first n octets of a large content, b"" when they are not to be
        had: the report then says all but what the message's header section was.
        """
        self._head = head
        self._hostname = plain(hostname).replace(" ", "")
        self._new_id = new_id
        self._wall_ns = wall_ns
        self._queue_ns = queue_ns
        self._options = options or NotifyOptions()

    def renew(self, options: NotifyOptions) -> None:
        """Tell whom these name from now on."""
        self._options = options

    def bounce(self, message: Message, failures: Facts, successes: Facts = ()) -> Report | None:
        """The notification that these outcomes, by recipient index, of `message` call for.

        To the reverse-path; None when NOTIFY keeps each of these recipients out of a report
        (RFC 3461 4.1). Of a message with null reverse-path nobody is told (RFC 5321 6.1) but a
        postmaster who wants that. A probe has one report, of all its recipients in their order.
        Assumes canonical content, in memory or in a file; raises ValueError without it, and
        without outcomes.
        """
        envelope = message.envelope
        to, kind = envelope.reverse_path, NON_DELIVERY
        if not failures and not successes:
            raise ValueError("a report needs at least one failure or success")
        if envelope.is_probe:
            facts = sorted([*failures, *successes], key=itemgetter(0))
            return self._report(to, message, PROBED, facts) if to else None
        if to == NULL_REVERSE_PATH:
            if not failures or not self._options.has(wanted.DOUBLE_BOUNCE):
                return None
            to, kind, successes = self._options.postmaster, POSTMASTER_NON_DELIVERY, ()
        failures = _those(envelope.dsn, failures, _FAILURE)
        facts = [*failures, *_those(envelope.dsn, successes, _SUCCESS)]
        if not failures:
            kind = SUCCESS
        return self._report(to, message, kind, facts) if facts else None

    def delay(self, message: Message, delayed: Facts, until_ns: int) -> Report | None:
        """The warning that `message` is late, and is tried until then; None: nobody wants it."""
        envelope = message.envelope
        if envelope.reverse_path == NULL_REVERSE_PATH or envelope.is_probe:
            return None
        facts = _those(envelope.dsn, delayed, _DELAY)
        if not facts:
            return None
        return self._report(envelope.reverse_path, message, DELAY, facts, until_ns)

    def copy(self, message: Message, outcomes: Facts, until_ns: int = 0) -> Report | None:
        """What the postmaster is told of these failures or (`until_ns`) of the delay.

        None when that is not wanted, or the sender said NOTIFY=NEVER; for a null reverse-path:
        `bounce` tells the postmaster of those; and of a probe, which is no mail.
        """
        envelope, options = message.envelope, self._options
        if not options.has(wanted.DELAY if until_ns else wanted.BOUNCE):
            return None
        if envelope.reverse_path == NULL_REVERSE_PATH or envelope.is_probe:
            return None
        dsn = envelope.dsn
        facts = [each for each in outcomes if dsn is None or dsn.notify_of(each[0]) != "NEVER"]
        if not facts:
            return None
        kind = POSTMASTER_DELAY if until_ns else POSTMASTER_NON_DELIVERY
        return self._report(options.postmaster, message, kind, facts, until_ns)

    def notice(self, kind: str, lines: Sequence[str], left_out: int = 0) -> Report | None:
        """Lines of the log for the postmaster, of class `kind`; None when that is not wanted."""
        if not self._options.has(kind) or not lines:
            return None
        text = [NOTICE.format(hostname=self._hostname, kind=plain(kind))]
        text += [f"{plain(line)[:_LINE_CHARACTERS_MAX]}\r\n" for line in lines]
        if left_out:
            text.append(f"\r\n({left_out} more lines are in the log only.)\r\n")
        subject = NOTICE_SUBJECT.format(hostname=self._hostname, kind=plain(kind))
        made = self._frame(self._options.postmaster, subject, is_sender=False)
        return self._finish(made, made.plain("".join(text)), POSTMASTER_NOTICE)

    def _report(
        self, to: bytes, message: Message, kind: str, facts: Facts, until_ns: int = 0
    ) -> Report:
        envelope = message.envelope
        content, is_large = self._original(message)
        form = form_of(to, message, facts, content)
        story = Story(self._hostname, message, kind, facts, form, until_ns)
        # Headers alone go back without a failure (RFC 3461 4.3), to postmasters, of mail that may
        # travel under TLS only (RFC 8689 5), and if no more was asked for.
        is_head = is_large or kind != NON_DELIVERY or envelope.is_tls_required
        is_head = is_head or (envelope.dsn is not None and envelope.dsn.returned == "HDRS")
        octets_max = self._options.original_octets
        parts = [
            notification(story),
            delivery_report(story),
            original(story, content, octets_max, is_head=is_head),
        ]
        is_sender = kind in (NON_DELIVERY, SUCCESS, DELAY, PROBED)
        made = self._frame(to, SUBJECTS[kind], is_sender=is_sender)
        logged = SUCCESS if kind == PROBED else kind
        return self._finish(made, made.report(parts), logged, message)

    def _original(self, message: Message) -> tuple[bytes, bool]:
        """What there is of the message, and whether it is too large to go back whole."""
        octets_max = self._options.original_octets
        if message.file is not None:
            # One octet more, so that a header section that goes on is seen to.
            return self._head(message.file, octets_max + 1) if self._head else b"", True
        if message.content is None:
            raise ValueError("a report needs the content of the message")
        return message.content, len(message.content) > octets_max

    def _frame(self, to: bytes, subject: str, *, is_sender: bool) -> Frame:
        return frame(
            self._hostname, self._new_id(), self._wall_ns(), to, subject, is_sender=is_sender
        )

    def _finish(
        self, made: Frame, content: bytes, kind: str, about: Message | None = None
    ) -> Report:
        envelope = Envelope(
            reverse_path=NULL_REVERSE_PATH,
            forward_paths=(made.to,),
            client=ClientIdentity(),
            is_8bit=made.is_8bit,
            tenant="" if about is None else about.envelope.tenant,
            is_utf8=not made.to.isascii(),
            dsn=None if made.is_sender else _NEVER,
            is_tls_required=about is not None and about.envelope.is_tls_required,
        )
        report = Report(made.id, envelope, content, self._queue_ns(), kind)
        report.message_id_field = made.message_id_field
        return report


def _those(dsn: DSNRequest | None, facts: Facts, event: str) -> list[tuple[int, Outcome]]:
    """Those of which the sender is to hear that it came to `event` (RFC 3461 4.1).

    Without NOTIFY a sender hears of failures and, where we do such a thing, of delays.
    """
    found = []
    for each in facts:
        notify = "" if dsn is None else dsn.notify_of(each[0])
        if event in notify.split(",") if notify else event != _SUCCESS:
            found.append(each)
    return found
