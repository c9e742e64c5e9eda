"""A private Postfix for a test; skips, and says so, where Postfix cannot run.

    with running_postfix(relay_host="[127.0.0.1]:2526") as postfix:
        smtplib.SMTP("127.0.0.1", postfix.port)

`postfix` has port, pid, log_text(), command("postqueue", "-p"), flush(), stop(), start().
`receiving` has what it takes to receive by TLS and after a login.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastmta.lab import Postfix, free_port
from fastmta.lab.postfix import missing, remove

__all__ = ["Postfix", "TlsPostfix", "receiving", "running_postfix", "running_tls_postfix"]


class TlsPostfix(Postfix):
    """One that listens at further places (`address:port`), with other settings there."""

    listeners: Mapping[str, Mapping[str, str]]

    def _master_table(self) -> str:
        table = super()._master_table()
        for place, settings in self.listeners.items():
            options = "".join(f" -o {{ {name} = {value} }}" for name, value in settings.items())
            table += f"{place} inet n - n - - smtpd{options}\n"
        return table


def receiving(
    certificate: str, *, level: str = "may", login_socket: str = "", is_login_needed: bool = False
) -> dict[str, str]:
    """Settings of a receiver with this certificate and key; Dovecot says who may log in."""
    settings = {
        "smtpd_tls_cert_file": certificate,
        "smtpd_tls_security_level": level,
        "smtpd_tls_loglevel": "1",
        "smtpd_tls_received_header": "yes",
        "smtpd_tls_session_cache_database": "btree:$data_directory/smtpd_scache",
    }
    if login_socket:
        settings |= {
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": login_socket,
            "smtpd_sasl_authenticated_header": "yes",
            "smtpd_tls_auth_only": "yes",
        }
    if is_login_needed:
        settings["smtpd_client_restrictions"] = "permit_sasl_authenticated, reject"
        settings["smtpd_delay_reject"] = "yes"
    return settings


@contextmanager
def running_postfix(*, relay_host: str = "", **settings: str) -> Iterator[Postfix]:
    """A started instance with queue and log of its own, stopped and removed at the end."""
    with _started(Postfix(_directory(), free_port(), relay_host, settings)) as postfix:
        yield postfix


@contextmanager
def running_tls_postfix(
    listeners: Mapping[str, Mapping[str, str]], *, relay_host: str = "", **settings: str
) -> Iterator[TlsPostfix]:
    """The same with more ports; the settings are those of `receiving`."""
    postfix = TlsPostfix(_directory(), free_port(), relay_host, settings)
    postfix.listeners = listeners
    with _started(postfix):
        yield postfix


def _directory() -> Path:
    problem = missing()
    if problem:
        pytest.skip(problem)
    # Not below pytest's directories: those are closed to the user postfix.
    return Path(tempfile.mkdtemp(prefix="fastmta-postfix-", dir="/var/tmp"))


@contextmanager
def _started(postfix: Postfix) -> Iterator[Postfix]:
    try:
        postfix.start()
        yield postfix
    finally:
        postfix.stop()
        remove(postfix.directory)
