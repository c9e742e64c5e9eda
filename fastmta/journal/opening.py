"""From options to a journal: which lines go where."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from .anonymise import Anonymiser
from .datagram import Address, DatagramPlace, Form
from .file import FilePlace, check_file
from .form import JournaldForm, SyslogForm
from .journal import Counting, Journal, Outlets
from .line import Heed, Origin
from .mask import Mask
from .writer import Place, Writer

_DISCARDED = os.devnull  # where lines go that only a worker could write


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalOptions:
    """What is written, and where; the daemon makes it from `[journal]`."""

    target: str = "file"  # "file", "syslog", "journald"
    file: str = "-"  # "-": standard output
    format: str = "postfix"  # "postfix", "json"
    json_file: str = ""  # "": no records besides
    syslog: Address = "/dev/log"
    journald: str = "/run/systemd/journal/socket"
    facility: str = "mail"
    anonymise: str = "no"  # a mode of `mask`
    salt: str = ""
    hides_clients: bool = False


def open_journal(
    options: JournalOptions,
    clock: Callable[[], float],
    origin: Origin,
    heed: Heed | None = None,
    tap: Counting | None = None,
) -> Journal:
    """A journal that writes as `options` say. Raises OSError: a file cannot be opened."""
    main = Writer(_place_of(options, origin))
    anonymiser = None
    if options.anonymise != "no" or options.hides_clients:
        mask = None if options.anonymise == "no" else Mask(options.anonymise, options.salt)
        anonymiser = Anonymiser(mask, hides_clients=options.hides_clients)
    if options.format == "json":
        return Journal(Outlets(None, main, anonymiser), clock, origin, heed, tap)
    records = Writer(FilePlace(options.json_file)) if options.json_file else None
    return Journal(Outlets(main, records, anonymiser), clock, origin, heed, tap)


def check_files(options: JournalOptions) -> None:
    """Raises OSError, with the path, when a log cannot be written. May create the files."""
    if options.target == "file":
        check_file(options.file)
    if options.json_file:
        check_file(options.json_file)


def quiet(options: JournalOptions) -> JournalOptions:
    """The same for somebody whose standard output is not the log."""
    if options.target != "file" or options.file != "-":
        return options
    return JournalOptions(
        file=_DISCARDED,
        format=options.format,
        json_file=options.json_file,
        anonymise=options.anonymise,
        salt=options.salt,
        hides_clients=options.hides_clients,
    )


def _place_of(options: JournalOptions, origin: Origin) -> Place:
    if options.target == "file":
        return FilePlace(options.file)
    form: Form
    if options.target == "journald":
        form = JournaldForm(origin, options.facility)
        return DatagramPlace(options.journald, form)
    has_host = isinstance(options.syslog, tuple)
    return DatagramPlace(options.syslog, SyslogForm(origin, options.facility, has_host=has_host))
