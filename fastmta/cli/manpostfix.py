"""The manual pages of Postfix's commands, which read their arguments themselves."""

from __future__ import annotations

from typing import NamedTuple

from . import roff

Entries = tuple[tuple[str, str], ...]


class Page(NamedTuple):
    summary: str
    synopses: tuple[str, ...]
    text: str
    options: Entries
    statuses: Entries
    others: tuple[str, ...]  # pages that belong to it


_CONFIG = ("-c FILE", "The configuration; else `FASTMTA_CONFIG`, else /etc/fastmta/fastmta.toml.")
_USAGE = ("64", "Wrong usage.")
_DOWN = ("69", "No server answers, or the queue cannot be read.")
_DENIED = ("77", "Not allowed.")
_BAD_CONFIG = ("78", "The configuration is wrong.")

PAGES = {
    "sendmail": Page(
        "send mail as Postfix's sendmail does",
        ("fastmta-sendmail [OPTION ...] [RECIPIENT ...]",),
        """\
Reads a message from standard input and hands it to the server, also while that is down: the
message waits, synced to the disk, in the drop directory (`[drop]`). When the command ends with 0,
the message is safe.

Addresses without a domain get the origin of the configuration. Options of Postfix's command that
are not named here are taken and ignored.""",
        (
            ("-t", "Take recipients from To, Cc and Bcc, too, and remove Bcc."),
            ("-i, -oi", "A line with a single dot does not end the message."),
            ("-f SENDER, -r SENDER", "The envelope's sender; `<>` is the null one."),
            ("-F NAME", "The full name of the sender, for a From field that is missing."),
            ("-B TYPE", "`7BIT` or `8BITMIME`."),
            (
                "-N CONDITIONS",
                "When to be notified: never, or success, failure and delay by comma.",
            ),
            ("-R WHAT", "What a notification returns: `full` or `hdrs`."),
            ("-V ID", "The envelope's id, which notifications repeat."),
            ("-O smtputf8=yes", "Addresses may have characters beyond ASCII."),
            ("-G", "Mail from a gateway: nothing is completed or added."),
            ("-oA FILE", "With `-bi`: these aliases instead of those of the configuration."),
            ("-bs", "Speak SMTP on standard input and output."),
            ("-bv", "Ask about the recipients only; the sender is mailed a report."),
            ("-bp", "List the queue, as fastmta-mailq(1)."),
            ("-bi, -I", "Make the aliases anew, as fastmta-newaliases(1)."),
            ("-q", "Try all mail that waits; `-qI ID` one message, `-qR SITE` one destination."),
            ("-C FILE", "The configuration, or the directory that has it."),
            ("-v", "Say more."),
        ),
        (
            ("0", "The message is safe."),
            _USAGE,
            ("65", "The message or an address is malformed."),
            ("69", "The message cannot be taken."),
            ("70", "A defect."),
            ("71", "The system failed."),
            ("75", "The message cannot be written now; try again later."),
            _DENIED,
            _BAD_CONFIG,
        ),
        ("mailq", "newaliases"),
    ),
    "mailq": Page(
        "list the queue as Postfix's mailq does",
        ("fastmta-mailq",),
        "The same as `fastmta-postqueue -p`.",
        (("-C FILE", _CONFIG[1]),),
        (("0", "Done."), _USAGE, _DOWN, _DENIED),
        ("postqueue",),
    ),
    "newaliases": Page(
        "check the aliases",
        ("fastmta-newaliases",),
        """\
Reads the aliases of the configuration and says what is wrong with them. The server takes a changed
file up by itself; there is no database to be made.""",
        (("-C FILE", _CONFIG[1]), ("-oA FILE", "These aliases instead.")),
        (
            ("0", "Done; what is wrong with a line stands on standard error."),
            _USAGE,
            ("69", "The file, or the configuration, cannot be read."),
        ),
        ("sendmail",),
    ),
    "postqueue": Page(
        "list the queue, or try its mail",
        (
            "fastmta-postqueue [-c FILE] [-v] -p",
            "fastmta-postqueue [-c FILE] [-v] -j",
            "fastmta-postqueue [-c FILE] [-v] -f",
            "fastmta-postqueue [-c FILE] [-v] -i ID",
            "fastmta-postqueue [-c FILE] [-v] -s SITE",
        ),
        """\
Lists what waits in the form of Postfix, or has it tried now. Root can list it while no server
runs.""",
        (
            ("-p", "List the queue. An asterisk behind the id: it is being tried; `!`: on hold."),
            ("-j", "List the queue, one JSON object a line."),
            ("-f", "Try everything that is deferred."),
            ("-i ID", "Try one message."),
            ("-s SITE", "Try what waits for one destination."),
            _CONFIG,
            ("-v", "Taken and ignored."),
        ),
        (("0", "Done."), ("69", f"Wrong usage. {_DOWN[1]}"), _DENIED),
        ("mailq", "postsuper", "qshape"),
    ),
    "postsuper": Page(
        "delete, hold, release and requeue mail",
        (
            "fastmta-postsuper [-psSv] [-c FILE] [-d ID] [-h ID] [-H ID] [-r ID] [-e ID] [-f ID]",
            "                  [QUEUE ...]",
        ),
        """\
Changes messages by their ids. `ALL`, in capitals, is all of them; `-` reads ids from standard
input. QUEUE is one of hold, incoming, active and deferred, and limits `ALL` to what is in it.
What has been told as done is on the disk. Works without a server, too; for root, and for the
server's user.""",
        (
            ("-d ID", "Delete. Nobody is told."),
            ("-h ID", "Put on hold: it is not tried until it is released."),
            ("-H ID", "Release from hold."),
            ("-r ID", "Requeue: try it as if it were new."),
            ("-e ID", "Expire: it goes back to its sender."),
            ("-f ID", "The same, also of what is on hold."),
            ("-p, -s, -S", "Taken and ignored: there is nothing to be purged or mended by hand."),
            _CONFIG,
            ("-v", "Say more."),
        ),
        (("0", "Done, also when there was nothing to do."), ("1", "Not done.")),
        ("postqueue",),
    ),
    "postcat": Page(
        "show a message of the queue",
        ("fastmta-postcat -q [-bdehov] [-c FILE] ID ...",),
        "Shows the envelope and the content of messages in the form of Postfix.",
        (
            ("-q", "Arguments are ids of the queue: there are no queue files to be named here."),
            ("-e", "Show the envelope."),
            ("-h", "Show the header section."),
            ("-b", "Show the body."),
            ("-d, -o, -v", "In front of each line: its type, its place, its name."),
            ("-r, -s", "Taken and ignored."),
            _CONFIG,
        ),
        (
            ("0", "Done."),
            ("1", "Wrong usage; or there is no such message."),
        ),
        ("postqueue",),
    ),
    "qshape": Page(
        "count the queue by domain and age",
        ("fastmta-qshape [-spl] [-b COUNT] [-t MINUTES] [-m COUNT] [-w WIDTH] [QUEUE ...]",),
        """\
Prints a table: a line for each domain, a column for each age. QUEUE is one of incoming, active,
deferred and hold; without any: incoming and active.""",
        (
            ("-s", "By the sender's domain instead of the recipients'."),
            ("-p", "Count parent domains, too."),
            ("-b COUNT", "So many columns of age; 10 by default."),
            ("-t MINUTES", "The first column's limit; each is twice as far as the one before."),
            ("-l", "Limits of equal distance instead."),
            ("-m COUNT", "With `-p`: only parent domains with so many subdomains."),
            ("-w WIDTH", "Width of the table; 80 by default."),
            ("-n COUNT", "Lines that a terminal gets; 20 by default."),
            ("-N COUNT", "Taken and ignored."),
            ("-c FILE", _CONFIG[1]),
        ),
        (("0", "Done."), ("1", "Failed.")),
        ("postqueue",),
    ),
}
NAMES = tuple(PAGES)


def postfix_pages() -> dict[str, str]:
    """The pages by their paths below the manual's directory."""
    return {f"man1/fastmta-{name}.1": _render(name, page) for name, page in PAGES.items()}


def _render(name: str, page: Page) -> str:
    lines = roff.title(f"fastmta-{name}", 1)
    lines += [roff.heading("name"), rf"fastmta\-{name} \- {roff.running(page.summary)}"]
    lines += [roff.heading("synopsis"), *roff.block(page.synopses)]
    lines += [roff.heading("description"), *roff.paragraphs(page.text)]
    lines += [".PP", *roff.filled(_PLAIN.format(name=name))]
    for title, entries in (("options", page.options), ("exit status", page.statuses)):
        if entries:
            lines.append(roff.heading(title))
        for term, text in entries:
            lines += roff.entry(rf"\fB{roff.literal(term)}\fR", text)
    others = [(f"fastmta-{one}", 1) for one in page.others]
    lines += roff.see_also([*others, ("fastmta-queue", 1), ("fastmta-install-commands", 1)])
    return "\n".join(lines) + "\n"


_PLAIN = "`fastmta install-commands {name}` puts it under its plain name, {name}."
