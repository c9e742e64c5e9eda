"""What root made or found is handed to the user that the server becomes: spool and log.

Root follows nobody's links and gives nobody's files away: of a directory that belongs to root, and
in it of what belongs to root, with a single name. What belongs to anybody else stops the start.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

import fastmta
from fastmta.config import Config
from fastmta.config.glimpse import glimpse_of
from fastmta.drop import Place
from fastmta.spool.layout import make_directory

from .mail_log import files_of
from .privilege import ROOT, Identity, acting_as, become, find_identity
from .sockets import BadStart

Named = Iterable[tuple[str, str]]  # (key, path)


def hand_over_directory(path: str, key: str, identity: Identity) -> None:
    """Make `path`, and what is in it, the user's; `key` is blamed. Raises BadStart.

    Only what is missing, empty or a spool of ours: a mistyped `/var` keeps its owner.
    """
    top = path
    while not os.path.lexists(parent := os.path.dirname(top)) and parent != top:
        top = parent
    try:
        if not os.path.lexists(top):
            make_directory(path)  # its parents, too, are ours alone
        found = os.stat(path)
        if found.st_uid == identity.uid:
            return
        if found.st_uid != ROOT or not (top != path or _is_ours(path)):
            raise BadStart(
                f"{key}: {path} belongs to uid {found.st_uid}, and the server becomes "
                f"{identity.name}: chown -R {identity.uid}:{identity.gid} {path}, or set "
                "process.user"
            )
        _give_tree(top, identity)
    except OSError as error:
        where = error.filename or path
        raise BadStart(
            f"{key}: cannot give {where} to {identity.name}: {error.strerror}"
        ) from error


def _is_ours(path: str) -> bool:
    names = set(os.listdir(path)) - {"lost+found"}
    return not names or "format" in names


def _give_tree(top: str, identity: Identity) -> None:
    for _, directories, files, directory_fd in os.fwalk(top, follow_symlinks=False):
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
    nearest = place.root
    while not os.path.lexists(nearest):
        nearest = os.path.dirname(nearest)
    if os.lstat(nearest).st_uid != ROOT:
        return
    place.prepare()
    for path in (place.wake, place.new, place.claimed, place.quarantine, place.root):
        found = os.lstat(path)
        if found.st_uid == ROOT and not stat.S_ISLNK(found.st_mode):
            os.chown(path, identity.uid, identity.gid, follow_symlinks=False)
            os.chmod(path, stat.S_IMODE(found.st_mode))  # changing hands clears some bits


def hand_over_log(path: str, key: str, identity: Identity) -> None:
    """Give a log that root has just made, still empty, to the user. Raises BadStart."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise BadStart(f"{key}: cannot use {path}: {error.strerror}") from error
    try:
        _give_file(fd, identity)
    finally:
        os.close(fd)


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
        self._new_logs: list[tuple[str, str]] = []  # that are going to be made by root

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
            hand_over_directory(config.control.directory, "control.directory", self.identity)
        self._make_drop(self.identity)
        self._new_logs = [one for one in files_of(config) if not os.path.exists(one[1])]

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
        config, tls = self._config, self._config.tls
        for key, path in self._new_logs:
            hand_over_log(path, key, self.identity)
        become(self.identity)
        files = [
            ("tls.certificate", tls.certificate),
            ("tls.key", tls.key),
            ("tls.client_ca", tls.client_ca),
            *(("tls.sni_certificates", path) for path in tls.sni_certificates),
        ]
        self.warnings += map(config.located, check_reach(files_of(config), files))
        return True
