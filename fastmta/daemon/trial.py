"""A start on trial: what would go wrong is found in a process of its own, before there are workers.

What that process imports and allocates is not ours afterwards.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import TypeAlias

from fastmta.config import Config

from .credentials import try_logins
from .foresight import try_access, try_reading
from .outbound import has_tls_options, rules, try_tls
from .privilege import die_with, renounce, try_process
from .reshaping import try_overrides
from .routing import missing_directories, route_table
from .sockets import BadStart

LIMIT_S = 60.0  # of a trial: importing a large library takes seconds
_TEXT_OCTETS_MAX = 64 * 1024
_LENGTH_OCTETS = 4

Step: TypeAlias = Callable[[Config], list[str]]  # warnings; raises BadStart


def try_start(config: Config, *, has_files: bool) -> list[str]:
    """Routes, certificates, logins, hooks: warnings, with the places of their keys.

    Raises BadStart, which names every problem that was found, one a line, in the same way.
    `has_files`: the contexts of TLS have been made already, so nothing is said of them. Makes
    nothing of ours: no certificate, no spool.
    """
    steps: list[Step] = [
        *(try_process, try_logins, _try_routes, _try_rules, try_overrides),
        *(try_reading, try_access),
    ]
    in_process: list[Step] = []
    if has_tls_options(config):
        in_process.append(try_tls)
    if not has_files and _has_tls_settings(config):
        in_process.append(_try_contexts)
    listeners = config.listen.values()
    if any(one.login_level != "off" for one in listeners) or config.hooks.aiosmtpd:
        in_process.append(_try_clients)
    if in_process:
        steps.append(
            lambda config: in_child(lambda: "\n".join(_all(in_process, config))).split("\n")
        )
    try:
        said = _all(steps, config)
    except BadStart as error:
        lines = dict.fromkeys(str(error).split("\n"))
        raise BadStart("\n".join(map(config.located, lines))) from None
    return [config.located(line) for line in said if line]


def _all(steps: Iterable[Step], config: Config) -> list[str]:
    """What all steps say, each line of it. Raises BadStart with all that is wrong."""
    said: list[str] = []
    wrong: list[str] = []
    for step in steps:
        try:
            said += [text.replace("\n", " ") for text in step(config)]
        except BadStart as error:
            wrong.append(str(error))
    if wrong:
        raise BadStart("\n".join(wrong))
    return said


def _try_routes(config: Config) -> list[str]:
    route_table(config)
    return missing_directories(config)


def _try_rules(config: Config) -> list[str]:
    if config.delivery.reply_rules:
        rules(config)
    return []


def _try_contexts(config: Config) -> list[str]:
    from .inbound import try_contexts

    return try_contexts(config)


def _try_clients(config: Config) -> list[str]:
    from .clients import try_clients

    return try_clients(config)


def _has_tls_settings(config: Config) -> bool:
    """Whether there is anything to be wrong with TLS; importing it takes a while."""
    tls = config.tls
    settings = (tls.certificate, tls.sni_certificates, tls.ciphers, tls.client_ca)
    is_lacking = find_spec("cryptography") is None
    return (is_lacking or any(settings)) and any(
        one.tls_level != "none" for one in config.listen.values()
    )


def in_child(action: Callable[[], str], limit_s: float = LIMIT_S) -> str:
    """Fork, run `action`, and return its text. What it raises becomes a BadStart with that text.

    So does a child that has no answer within `limit_s`, which is killed.
    """
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        _child(parent, action, write_fd)
    os.close(write_fd)
    try:
        octets = _read(read_fd, pid, time.monotonic() + limit_s)
    finally:
        os.close(read_fd)
    if octets is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise BadStart(
            f"no answer within {limit_s:g} s while hooks and files of logins were tried: does a "
            "module wait for something when it is imported?"
        )
    _, status = os.waitpid(pid, 0)
    text = octets.decode("utf-8", "replace")
    if status:
        raise BadStart(text or f"ended with {os.waitstatus_to_exitcode(status)}")
    return text


def _read(read_fd: int, pid: int, until_s: float) -> bytes | None:
    """The child's answer; b"" if it ended without one, None if there is none in time.

    The pipe's end says nothing: a module may have started a process that keeps it open.
    """
    octets = b""
    process_fd = os.pidfd_open(pid)
    either = select.poll()
    for fd in (read_fd, process_fd):
        either.register(fd, select.POLLIN)
    try:
        while True:
            left_s = max(0.0, until_s - time.monotonic())
            ready = [fd for fd, _ in either.poll(left_s * 1000)]
            if not ready:
                return None
            piece = os.read(read_fd, _TEXT_OCTETS_MAX) if read_fd in ready else b""
            octets += piece
            end = _LENGTH_OCTETS + int.from_bytes(octets[:_LENGTH_OCTETS], "big")
            if len(octets) >= max(end, _LENGTH_OCTETS):
                return octets[_LENGTH_OCTETS:end]
            if not piece:
                return b""
    finally:
        os.close(process_fd)


def _child(parent: int, action: Callable[[], str], write_fd: int) -> None:
    renounce()
    die_with(parent)
    code = 0
    try:
        text = action()
    except BadStart as error:
        code, text = 1, str(error)
    except BaseException as error:
        code, text = 1, f"{type(error).__name__}: {error}"
    octets = text.encode("utf-8", "replace")[:_TEXT_OCTETS_MAX]
    try:
        os.write(write_fd, len(octets).to_bytes(_LENGTH_OCTETS, "big") + octets)
    finally:
        os._exit(code)
