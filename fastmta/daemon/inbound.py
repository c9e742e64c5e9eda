"""What the workers share about clients: made once by the supervisor, before it forks.

TLS contexts, so that a session's ticket is good at every worker of a listener; the memory in which
all of them count what clients use up; and secrets. It is here that the spool's directory is made,
because the certificate of our own making and a secret stand in it.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fastmta.budget import table_octets
from fastmta.budget.client import ACCOUNT_ENTRIES
from fastmta.config import Config, Listen
from fastmta.security import ServerContexts, TlsOptions, check_tls, ensure_selfsigned
from fastmta.spool.layout import make_directory, write_file

from .blame import name_key, tell_use
from .footing import Bendable, check_way, is_closed
from .privilege import Identity as Owner
from .privilege import acting_as
from .sockets import BadStart

_SECRET_OCTETS = 32
_FULL = (errno.ENOSPC, errno.EDQUOT)
_SECRET_NAME = "secret"  # in the spool's directory


class NoRoom(BadStart):
    """The volume is full: it may succeed later."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """Shared by all workers of one server."""

    contexts: Mapping[str, ServerContexts]  # by listener's name; none: it has no TLS
    clients: mmap.mmap  # tables of `budget.Tally`
    accounts: mmap.mmap
    tally_secret: bytes  # of the keys in the tables, so of this start
    login_secret: bytes  # makes up what unknown users have, so the same at every start
    workers: int


def prepare_inbound(config: Config, workers: int, owner: Owner | None = None) -> Inbound:
    """Makes the spool's directory, and what is missing of ours in it, as `owner` if that is given.

    Raises BadStart that names the file or key, and what to do; NoRoom.
    """
    root = config.spool.directory
    try:
        with acting_as(owner):
            make_directory(root)
            login_secret = _durable_secret(os.path.join(root, _SECRET_NAME))
    except OSError as error:
        raise _unusable(root, error) from error
    return Inbound(
        contexts=_contexts(config, owner),
        clients=mmap.mmap(-1, table_octets(workers)),
        accounts=mmap.mmap(-1, table_octets(workers, ACCOUNT_ENTRIES)),
        tally_secret=os.urandom(_SECRET_OCTETS),
        login_secret=login_secret,
        workers=workers,
    )


def renew_inbound(config: Config, old: Inbound) -> Inbound:
    """The same with contexts of TLS by another configuration. Raises BadStart."""
    return replace(old, contexts=_contexts(config))


def _durable_secret(path: str) -> bytes:
    """The one that is there, or a new one. Raises OSError."""
    try:
        with open(path, "rb") as file:
            secret = file.read(_SECRET_OCTETS + 1)
        if len(secret) == _SECRET_OCTETS:
            return secret
    except FileNotFoundError:
        pass
    secret = os.urandom(_SECRET_OCTETS)
    try:
        write_file(path, secret)
    except OSError as error:  # a queue that cannot start cannot make room either
        if error.errno not in _FULL:
            raise
    return secret


def _unusable(path: str, error: OSError) -> BadStart:
    kind = NoRoom if error.errno in _FULL else BadStart
    return kind(f"spool.directory: {tell_use(path, error)}")


# TLS.


def try_contexts(config: Config) -> list[str]:
    """What the files of TLS are like, without making any: warnings. Raises BadStart."""
    warnings: dict[str, None] = {}
    with _told_of_tls(config):
        for name in _tls_listeners(config):
            options = _options(config, name, config.tls.certificate)
            warnings |= dict.fromkeys(check_tls(options))
    return [name_tls_key(config, text) for text in warnings]


def _contexts(config: Config, owner: Owner | None = None) -> dict[str, ServerContexts]:
    made: dict[str, ServerContexts] = {}
    reader = None  # whoever we are
    with _told_of_tls(config):
        listeners = _tls_listeners(config)
        certificate = config.tls.certificate
        if listeners and not certificate:
            with acting_as(owner):
                certificate = _selfsigned(config)
        if listeners and owner is not None and _can_read(config, certificate, owner):
            reader = owner
        with acting_as(reader):
            for name in listeners:
                made[name] = ServerContexts(_options(config, name, certificate))
    return made


def tls_files(config: Config, certificate: str = "") -> list[tuple[str, str]]:
    """The files of TLS with clients, `certificate` in the place of one that is not set."""
    tls = config.tls
    files = [
        ("tls.certificate", tls.certificate or certificate),
        ("tls.key", tls.key),
        ("tls.client_ca", tls.client_ca),
        *(("tls.sni_certificates", path) for path in tls.sni_certificates),
    ]
    return [(key, path) for key, path in files if path]


def _can_read(config: Config, certificate: str, owner: Owner) -> bool:
    """Whether that user can read all files; if not, root may. Raises BadStart: or rather not.

    Root reads no file whose place the user can change: it may be a link to another's key.
    """
    files = tls_files(config, certificate)
    closed = [path for _, path in files if is_closed(path, owner)]
    for key, path in files if closed else ():
        try:
            check_way(path, owner)
        except Bendable as way:
            raise BadStart(
                f"{key}: root has to read {closed[0]}, and then would {path}, too; but "
                f"{owner.name} can change {way.place}, so it may be a link to anything: let the "
                f"server's group read {closed[0]}, or keep {path} elsewhere"
            ) from None
    return not closed


def _selfsigned(config: Config) -> str:
    """Path of the certificate of our own making. Raises BadStart."""
    directory = f"{config.spool.directory}/tls"
    try:
        return ensure_selfsigned(directory, config.hostname)
    except OSError as error:
        raise _unusable(directory, error) from error
    except ValueError as error:
        text = f"no certificate can be made for {config.hostname} ({error}): set tls.certificate"
        raise BadStart(f"hostname: {text}") from error


@contextmanager
def _told_of_tls(config: Config) -> Iterator[None]:
    """What goes wrong is a BadStart that names the key."""
    try:
        yield
    except ImportError as error:
        raise BadStart(
            f"tls: needs the package cryptography ({error}): install it, or set "
            'listen.<name>.tls = "none"'
        ) from error
    except (OSError, ValueError) as error:
        raise BadStart(name_tls_key(config, str(error))) from error


def _tls_listeners(config: Config) -> list[str]:
    return [name for name, listen in config.listen.items() if has_tls(listen)]


def _options(config: Config, name: str, certificate: str) -> TlsOptions:
    """What one listener offers."""
    tls = config.tls
    level = config.listen[name].certificate_level(tls.client_ca)
    return TlsOptions(
        certificate=certificate,
        key=tls.key,
        others=tls.sni_certificates,
        version_min=tls.minimum,
        ciphers=tls.ciphers,
        client_ca=tls.client_ca if level != "none" else "",
        is_client_certificate_required=level == "require",
    )


def has_tls(listen: Listen) -> bool:
    """Whether clients of this listener can use TLS."""
    return listen.tls_level != "none"


def name_tls_key(config: Config, text: str) -> str:
    """A problem or warning of TLS, with the key in front that it is about."""
    tls = config.tls
    places = [
        ("tls.certificate", tls.certificate),
        ("tls.key", tls.key),
        ("tls.client_ca", tls.client_ca),
        ("tls.ciphers", f"TLS ciphers {tls.ciphers!r}"),
        *(("tls.sni_certificates", path) for path in tls.sni_certificates),
    ]
    return name_key(text, places) or f"tls: {text}"
