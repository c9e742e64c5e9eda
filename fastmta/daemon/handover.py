"""What root made or found is handed to the user that the server becomes: spool and log.

Root follows nobody's links and gives nobody's files away: of a directory that belongs to root, and
in it of what belongs to root, with a single name. What belongs to anybody else stops the start. On
a way that the user can change, he goes himself.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable

import fastmta
from fastmta.config import Config
from fastmta.config.glimpse import glimpse_of
from fastmta.drop import Place
from fastmta.journal.file import MODE as LOG_MODE
from fastmta.spool.layout import make_directory

from .footing import Bendable, check_way, firm_way
from .inbound import tls_files
from .mail_log import files_of
from .privilege import ROOT, Identity, acting_as, become, find_identity
from .sockets import BadStart
from .unixsocket import Identity as PathIdentity
from .unixsocket import open_path

Named = Iterable[tuple[str, str]]  # (key, path)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def hand_over_directory(path: str, key: str, identity: Identity, mode: int = 0o700) -> None:
    """Make `path`, and what is in it, the user's; `key` is blamed. Raises BadStart.

    Only what is missing, empty or a spool of ours: a mistyped `/var` keeps its owner. Where the way
    there is the user's to change, he makes it himself.
    """
    try:
        try:
            with firm_way(path, identity) as (fd, missing):
                if missing:
                    _make_for(fd, missing, identity, mode)
                elif os.fstat(fd).st_uid != identity.uid:
                    _give_directory(fd, path, key, identity)
        except Bendable:
            with acting_as(identity):
                make_directory(path)
                owner = os.stat(path).st_uid
            if owner != identity.uid:
                raise _of_others(path, owner, key, identity) from None
    except OSError as error:
        where = error.filename or path
        raise BadStart(
            f"{key}: cannot give {where} to {identity.name}: {error.strerror}"
        ) from error


def _of_others(path: str, owner: int, key: str, identity: Identity) -> BadStart:
    return BadStart(
        f"{key}: {path} belongs to uid {owner}, and the server becomes {identity.name}: "
        f"chown -R {identity.uid}:{identity.gid} {path}, or set process.user"
    )


def _make_for(fd: int, names: list[str], identity: Identity | None, mode: int) -> None:
    """Directories below one another, durably, and that user's, or root's: the parents, too."""
    made = []
    try:
        for name in names:
            os.mkdir(name, 0o700, dir_fd=fd)
            below = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            made.append(below)
            _sync(fd)
            fd = below
        for below in reversed(made):
            os.fchmod(below, mode)
            if identity is not None:
                os.fchown(below, identity.uid, identity.gid)
    finally:
        for below in made:
            os.close(below)


def _sync(fd: int) -> None:
    """Make the names in a directory durable; `fd` may be one that only names it."""
    real = os.open(".", _DIRECTORY, dir_fd=fd)
    try:
        os.fsync(real)
    finally:
        os.close(real)


def _give_directory(fd: int, path: str, key: str, identity: Identity) -> None:
    """One that is there, and root's."""
    real = os.open(".", _DIRECTORY, dir_fd=fd)
    try:
        owner = os.fstat(real).st_uid
        if owner != ROOT or not _is_ours(real):
            raise _of_others(path, owner, key, identity)
        _give_tree(real, identity)
    finally:
        os.close(real)


def _is_ours(fd: int) -> bool:
    names = set(os.listdir(fd)) - {"lost+found"}
    return not names or "format" in names


def _give_tree(top: int, identity: Identity) -> None:
    for _, directories, files, directory_fd in os.fwalk(".", dir_fd=top, follow_symlinks=False):
        if os.fstat(directory_fd).st_uid != ROOT:
            directories.clear()  # the door of others: they may change it under our hands
            continue
        for name in files:
            _give(name, directory_fd, identity)
        os.fchown(directory_fd, identity.uid, identity.gid)


def _give(name: str, directory_fd: int, identity: Identity) -> None:
    found = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode):
        return  # a socket is made anew by whoever listens
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(name, flags, dir_fd=directory_fd)
    try:
        _give_file(fd, identity)
    finally:
        os.close(fd)


def _give_file(fd: int, identity: Identity) -> None:
    found = os.fstat(fd)
    if found.st_uid == ROOT and stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
        os.fchown(fd, identity.uid, identity.gid)


def hand_over_drop(place: Place, identity: Identity) -> None:
    """Make the drop directory the user's, but not the mail in it. Raises OSError.

    What is somebody's already he may change under our hands; the server makes what is missing.
    """
    try:
        with firm_way(place.root, identity) as (fd, missing):
            found = os.fstat(fd)
            if found.st_uid != ROOT or (not missing and found.st_mode & 0o022):
                return
            if missing:  # before anybody else makes it, with links in it, where everybody may
                _make_for(fd, missing, None, 0o755)
    except Bendable:
        return
    place.prepare()
    for path in (place.wake, place.new, place.claimed, place.quarantine, place.root):
        found = os.lstat(path)
        if found.st_uid == ROOT and not stat.S_ISLNK(found.st_mode):
            os.chown(path, identity.uid, identity.gid, follow_symlinks=False)
            os.chmod(path, stat.S_IMODE(found.st_mode))  # changing hands clears some bits


def make_log(path: str, key: str, identity: Identity) -> None:
    """Make the file of a log for the user where he cannot make it. Raises BadStart.

    Root only ever makes it: a file that is there is opened by the user himself, or not at all.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with acting_as(identity):
            os.close(os.open(path, flags, LOG_MODE))
        return
    except PermissionError:
        pass
    except OSError:
        return  # it is there, or whoever opens it says what is wrong
    try:
        with firm_way(path, identity) as (fd, missing):
            if len(missing) == 1:
                made = os.open(missing[0], flags, LOG_MODE, dir_fd=fd)
                try:
                    os.fchown(made, identity.uid, identity.gid)
                finally:
                    os.close(made)
    except Bendable as way:
        raise BadStart(
            f"{key}: {path} is to be made as root, but {identity.name} can change {way.place}, "
            "so it could be made anywhere: make it yourself, or choose another directory"
        ) from None
    except OSError as error:
        raise BadStart(f"{key}: cannot make {path}: {error.strerror}") from error


def check_installed(identity: Identity) -> None:
    """What is imported later must be readable for that user, too. Raises BadStart."""
    with acting_as(identity):
        for module in (fastmta.__file__, os.__file__):
            if not os.access(module, os.R_OK, effective_ids=True):
                raise BadStart(
                    f"process.user: {identity.name} cannot read {os.path.dirname(module)}, which "
                    'only root can: install it elsewhere, or set process.user = "root"'
                )


def check_reach(logs: Named, tls_files: Named) -> list[str]:
    """As the user that we have become: warnings of what will not work later.

    What cannot even be written or read at the start, others find.
    """
    said = []
    for key, path in logs:
        if not os.access(os.path.dirname(path), os.W_OK | os.X_OK):
            said.append(
                f"{key}: uid {os.geteuid()} cannot make files in {os.path.dirname(path)}: let "
                "what rotates the log make the new one, owned by that user (docs/service.md)"
            )
    for key, path in tls_files:
        if path and not os.access(path, os.R_OK):
            said.append(
                f"{key}: uid {os.geteuid()} cannot read {path}: it is in use as root has read it, "
                "and a new one is taken up by a restart only; let the server's group read it"
            )
    return said


class Standing:
    """Who we are at the start, and who afterwards."""

    def __init__(self, config: Config) -> None:
        """Raises BadStart: we cannot become whom the configuration names."""
        self.identity = find_identity(config.process)
        self.warnings: list[str] = []
        self._config = config

    def open_path(self, path: str, mode: int, backlog: int) -> tuple[socket.socket, PathIdentity]:
        """A unix socket: as the user, and where he may not, as root. Raises OSError."""
        if self.identity is None:
            return open_path(path, mode, backlog)
        try:
            with acting_as(self.identity):
                return open_path(path, mode, backlog)
        except PermissionError:
            try:
                check_way(path, self.identity)
            except Bendable as way:
                text = f"{self.identity.name} may not, and can change {way.place}"
                raise PermissionError(errno.EPERM, text, path) from None
        return open_path(path, mode, backlog)

    @property
    def says(self) -> str:
        """Who serves, if that is worth a line."""
        if self.identity is not None:
            return f"serves as {self.identity.name}"
        if os.geteuid() == ROOT and not self._config.process.user:
            return "serves as root; docs/service.md says how it becomes another user"
        return ""

    def make_places(self) -> None:
        """As root: directories that the user could not make. Raises BadStart."""
        if self.identity is None:
            return
        config = self._config
        check_installed(self.identity)
        hand_over_directory(config.spool.directory, "spool.directory", self.identity)
        if config.control.directory:
            mode = 0o755 if config.control.is_shared else 0o700
            hand_over_directory(config.control.directory, "control.directory", self.identity, mode)
        self._make_drop(self.identity)
        for key, path in files_of(config):
            make_log(path, key, self.identity)

    def _make_drop(self, identity: Identity) -> None:
        """Where local programs leave mail; a server without it only has no `sendmail`."""
        place = Place(glimpse_of(self._config).drop_directory)
        try:
            hand_over_drop(place, identity)
        except OSError as error:
            where = error.filename or place.root
            self.warnings.append(f"drop.directory: cannot make {where}: {error.strerror}")

    def take(self) -> bool:
        """Become that user; whether we are another one now. Raises BadStart."""
        if self.identity is None:
            return False
        config = self._config
        become(self.identity)
        self.warnings += map(config.located, check_reach(files_of(config), tls_files(config)))
        return True
