"""Who the server is: a start as root binds, reads its TLS keys, and becomes somebody else.

The supervisor keeps one capability, to bind a low port when a reload asks for it; workers, and
everything else that is forked, keep none. Nothing that is executed can gain any (no_new_privs).
"""

from __future__ import annotations

import grp
import os
import pwd
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastmta.config import Config
from fastmta.config.process import Process

from .sockets import BadStart

DEFAULT_USER = "fastmta"
ROOT = 0
_NUMBER_DIGITS_MAX = 9
# <linux/prctl.h>, <linux/capability.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
CAP_NET_BIND_SERVICE = 10
_CAPABILITIES_MAX = 63
_HEADER = struct.Struct("=Ii")  # version, process: 0 is ours
_DATA = struct.Struct("=6I")  # effective, permitted, inheritable: the low halves, then the high


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the server becomes."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]  # gid among them


def find_identity(process: Process) -> Identity | None:
    """Whom to become; None: we stay who we are.

    Raises BadStart: there is no such user or group, or we are not root and cannot become it.
    """
    if os.geteuid() == ROOT:
        if not process.user and not _is_user(DEFAULT_USER):
            if process.group:
                raise BadStart("process.group: is for process.user, which is not set")
            return None
        identity = _identity(process.user or DEFAULT_USER, process.group)
        return None if identity.uid == ROOT else identity
    if process.user:
        identity = _identity(process.user, process.group)
        if identity.uid != os.geteuid():
            text = f"only a start as root can become {identity.name}; we are uid {os.geteuid()}"
            raise BadStart(f"process.user: {text}")
    return None


def try_process(config: Config) -> list[str]:
    """Whether user and group are there, whoever we are: no warnings. Raises BadStart."""
    if config.process.user:
        _identity(config.process.user, config.process.group)
    return []


def become(identity: Identity) -> None:
    """Be somebody else for good, with one capability left. Raises BadStart.

    There must be no other threads: they would stay who they are.
    """
    _prctl(_PR_SET_KEEPCAPS, 1)
    for capability in range(_CAPABILITIES_MAX + 1):  # ends where the kernel knows no more
        if capability != CAP_NET_BIND_SERVICE and not _prctl(_PR_CAPBSET_DROP, capability):
            break
    try:
        os.setgroups(identity.groups)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    except OSError as error:
        text = f"cannot become {identity.name}: {error.strerror}"
        raise BadStart(f"process.user: {text}") from error
    _set_capabilities(1 << CAP_NET_BIND_SERVICE)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if os.getresuid() != (identity.uid,) * 3 or os.getresgid() != (identity.gid,) * 3:
        raise BadStart(f"process.user: the system did not make us {identity.name}")
    if _permitted() & ~(1 << CAP_NET_BIND_SERVICE):
        raise BadStart("process.user: the system left us capabilities of root")


@contextmanager
def acting_as(identity: Identity | None) -> Iterator[None]:
    """Files that are made meanwhile are that user's; root again afterwards. None: no change."""
    if identity is None:
        yield
        return
    before = os.getgroups()
    os.setgroups(identity.groups)
    os.setegid(identity.gid)
    os.seteuid(identity.uid)
    try:
        yield
    finally:
        os.seteuid(ROOT)
        os.setegid(ROOT)
        os.setgroups(before)


@contextmanager
def acting_as_owner(path: str) -> Iterator[None]:
    """Files that root makes meanwhile belong to whom `path` belongs. Raises OSError."""
    owner = os.stat(path)
    is_theirs = os.geteuid() == ROOT != owner.st_uid
    with acting_as(
        Identity("", owner.st_uid, owner.st_gid, (owner.st_gid,)) if is_theirs else None
    ):
        yield


def renounce() -> None:
    """In a process that only works: no capability is left. A server that stays root stays it."""
    if os.geteuid() != ROOT and _permitted():
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
        _set_capabilities(0)


def die_with(parent: int) -> None:
    """In a process that `parent` has just forked: be killed when that ends, however it does."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os.kill(os.getpid(), signal.SIGKILL)


def _identity(user: str, group: str) -> Identity:
    try:
        found = pwd.getpwuid(int(user)) if _is_number(user) else pwd.getpwnam(user)
        name, uid, gid = found.pw_name, found.pw_uid, found.pw_gid
    except KeyError:
        if not _is_number(user):
            raise BadStart(f"process.user: there is no user {user}") from None
        if not group:
            text = f"there is no user with the number {user}: set process.group, too"
            raise BadStart(f"process.user: {text}") from None
        name, uid, gid = "", int(user), -1
    if group:
        try:
            gid = int(group) if _is_number(group) else grp.getgrnam(group).gr_gid
        except KeyError:
            raise BadStart(f"process.group: there is no group {group}") from None
    groups = os.getgrouplist(name, gid) if name else [gid]
    return Identity(name or user, uid, gid, tuple(dict.fromkeys([gid, *groups])))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS_MAX


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


# The kernel


def _prctl(option: int, argument: int) -> bool:
    """Whether it was done; a kernel without the option has nothing to be taken from us by it."""
    import ctypes  # here: who is not started as root needs none of it

    zero = ctypes.c_ulong(0)
    return not ctypes.CDLL(None).prctl(option, ctypes.c_ulong(argument), zero, zero, zero)


def _set_capabilities(mask: int) -> None:
    """Have these, of those that we have; none is passed on by executing."""
    import ctypes

    kept = mask & _permitted()
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = ctypes.create_string_buffer(_HEADER.pack(_CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(_DATA.pack(low, low, 0, high, high, 0))
    ctypes.CDLL(None).capset(header, data)


def _permitted() -> int:
    """The capabilities that we may use."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapPrm:"):
                return int(line[7:], 16)
    return 0
