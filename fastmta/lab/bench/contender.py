"""The servers that are compared, each as one instance that a stage starts and stops."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..loopback import HOST, LabError, free_port
from ..postfix import Postfix
from ..server import Server, ServerOptions
from .case import WIDE_CONNECTIONS
from .certificate import MIN_PROTOCOL, Certificate
from .shim import Shim
from .standing import Standing

POSTFIX, FASTMTA = "postfix", "fastmta"
CONTENDERS = (POSTFIX, FASTMTA)


class Contender(Protocol):
    """What a measurement needs of a server."""

    port: int
    log: Path

    @property
    def pid(self) -> int: ...
    def start(self) -> None: ...
    def stop(self) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOptions:
    """How the servers of a stage are set up."""

    directory: Path
    names: tuple[str, ...]
    relay_port: int
    workers: int  # of fastmta; 0: one per core
    durability: str
    is_wide: bool = False
    has_shim: bool = False
    certificate: Certificate | None = None  # offered with STARTTLS
    has_tls_out: bool = False  # insisted on with the receiver
    has_reuse: bool = False  # Postfix may use such a connection again


class Stage(Standing):
    """Started servers, one of each name; a context manager that stops them."""

    def __init__(self, options: StageOptions) -> None:
        super().__init__()
        self.options = options
        self.contenders: dict[str, Contender] = {}
        self.shims: dict[str, Shim] = {}

    def stand(self) -> None:
        for name in self.options.names:
            self._start(name)

    def _start(self, name: str) -> None:
        options = self.options
        label = "-".join(
            [
                name,
                *(["wide"] if options.is_wide else []),
                *(["shim"] if options.has_shim else []),
                *(["tls"] if options.certificate else []),
                *(["out"] if options.has_tls_out else []),
                *(["reuse"] if options.has_reuse else []),
            ]
        )
        environment: dict[str, str] = {}
        if options.has_shim:
            shim = Shim(options.directory, label)
            self._stack.callback(shim.close)
            self.shims[name] = shim
            environment = shim.environment
        directory = options.directory / label
        make = self._postfix if name == POSTFIX else self._fastmta
        contender = make(directory, environment)
        contender.start()
        self._stack.callback(contender.stop)
        self.contenders[name] = contender
        if options.has_shim and self.shims[name].processes == 0:
            raise LabError(f"{name} runs, but did not load the shim")

    def _postfix(self, directory: Path, environment: Mapping[str, str]) -> Contender:
        limit = str(WIDE_CONNECTIONS)
        wide = {
            "default_process_limit": str(WIDE_CONNECTIONS + 100),
            "smtp_destination_concurrency_limit": limit,
            "initial_destination_concurrency": limit,
        }
        relay_host = f"[{HOST}]:{self.options.relay_port}"
        settings = wide if self.options.is_wide else {}
        if self.options.certificate:
            settings |= postfix_tls(self.options.certificate)
        if self.options.has_tls_out:
            settings |= postfix_tls_out(has_reuse=self.options.has_reuse)
        return Postfix(directory, free_port(), relay_host, settings, environment)

    def _fastmta(self, directory: Path, environment: Mapping[str, str]) -> Contender:
        wide = {
            "delivery.site_connections": WIDE_CONNECTIONS,
            "delivery.window_start": WIDE_CONNECTIONS,
        }
        return Server(
            ServerOptions(
                directory=directory,
                relay_host=f"[{HOST}]:{self.options.relay_port}",
                workers=self.options.workers,
                settings={
                    "spool.durability": self.options.durability,
                    **(wide if self.options.is_wide else {}),
                    **(fastmta_tls(self.options.certificate) if self.options.certificate else {}),
                    **({"relay.tls": "encrypt"} if self.options.has_tls_out else {}),
                },
                environment=environment,
            )
        )


def postfix_tls(certificate: Certificate) -> dict[str, str]:
    """Opportunistic TLS with the certificate; ciphers and curves stay as they are.

    So do session tickets, one per handshake: none cannot be had (without a cache it issues two
    that nobody can use, under TLS 1.3).
    """
    return {
        "smtpd_tls_security_level": "may",
        "smtpd_tls_cert_file": str(certificate.chain),
        "smtpd_tls_key_file": str(certificate.key),
        "smtpd_tls_protocols": f">={MIN_PROTOCOL}",
    }


def fastmta_tls(certificate: Certificate) -> dict[str, str]:
    """The same of fastmta."""
    return {"tls.certificate": str(certificate.chain), "tls.key": str(certificate.key)}


def postfix_tls_out(*, has_reuse: bool) -> dict[str, str]:
    """TLS or nothing; a session per connection, as is its default, unless it is to be reused.

    Client sessions are cached, as Debian's main.cf has it, so that a handshake can be short.
    """
    settings = {
        "smtp_tls_security_level": "encrypt",
        "smtp_tls_mandatory_protocols": f">={MIN_PROTOCOL}",
        "smtp_tls_session_cache_database": "btree:${data_directory}/smtp_scache",
    }
    return settings | ({"smtp_tls_connection_reuse": "yes"} if has_reuse else {})
