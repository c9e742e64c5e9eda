"""A start on trial: what would go wrong is found in a process of its own, before there are workers.

What that process imports and allocates is not ours afterwards.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

from fastmta.config import Config

from .sockets import BadStart

LIMIT_S = 60.0  # of a trial: importing a large library takes seconds
_TEXT_OCTETS_MAX = 64 * 1024
_LENGTH_OCTETS = 4


def try_start(config: Config, *, has_files: bool) -> list[str]:
    """Certificates, users, senders, hooks: warnings. Raises BadStart, which names the key.

    `has_files`: the contexts of TLS have been made already, so nothing is said of them. Makes
    nothing of ours: no certificate, no spool.
    """
    is_trying_tls = not has_files and _has_tls_settings(config)
    listeners = config.listen.values()
    is_trying_clients = any(one.login_level != "off" for one in listeners) or config.hooks.aiosmtpd
    if not is_trying_tls and not is_trying_clients:
        return []

    def action() -> str:
        said = []
        if is_trying_tls:
            from .inbound import try_contexts

            said += try_contexts(config)
        if is_trying_clients:
            from .clients import try_clients

            said += try_clients(config)
        return "\n".join(text.replace("\n", " ") for text in said)

    return [line for line in in_child(action).split("\n") if line]


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
    pid = os.fork()
    if not pid:
        _child(action, write_fd)
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


def _child(action: Callable[[], str], write_fd: int) -> None:
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
