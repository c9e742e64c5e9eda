"""Records tests/vectors/situations.json: what Debian's Postfix prints in each situation.

    python -m tests.interop.record_situations        (as root, with Debian's postfix)

Once more after each change of situations.toml; `test_situations.py` says so when it is needed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from fastmta.lab.loopback import free_port
from fastmta.lab.postfix import Postfix, remove
from tests.support.certificates import Certificates
from tests.support.dovecot import running_dovecot
from tests.support.situation.compare import by_situation, comparable_replies
from tests.support.situation.play import USERS, certified, listening, naming, talk
from tests.support.situation.reports import by_situation as reports_by_situation
from tests.support.situation.table import Situation, load

RECORDED = Path(__file__).parents[1] / "vectors" / "situations.json"
_QUIET_S = 4.0  # without a line: longer than any time limit below
_LONGEST_S = 120.0
COMMON = {
    "myhostname": "mail.example",
    "mynetworks": "127.0.0.1/32, 127.0.1.0/24",
    "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
    "smtpd_peername_lookup": "no",
    "smtpd_helo_required": "yes",
    "smtpd_error_sleep_time": "0",
    "smtpd_timeout": "2s",
    "smtpd_hard_error_limit": "4",
    "message_size_limit": "100000",
    "enable_long_queue_ids": "yes",
    "smtp_tls_security_level": "none",
    "smtp_connection_cache_on_demand": "no",
    "smtp_address_preference": "ipv4",
    "smtp_connect_timeout": "2s",
    "smtp_helo_timeout": "2s",
    "smtp_mail_timeout": "2s",
    "smtp_rcpt_timeout": "2s",
    "smtp_data_init_timeout": "2s",
    "smtp_data_done_timeout": "2s",
    "smtp_quit_timeout": "2s",
    "smtp_per_record_deadline": "no",
    "default_destination_concurrency_failed_cohort_limit": "0",
}
SETTINGS = {
    "main": {},
    "expire": {
        "maximal_queue_lifetime": "1s",
        "bounce_queue_lifetime": "1s",
        "minimal_backoff_time": "2s",
        "maximal_backoff_time": "2s",
        "queue_run_delay": "1s",
    },
    "delay": {
        "delay_warning_time": "1s",
        "minimal_backoff_time": "2s",
        "maximal_backoff_time": "2s",
        "queue_run_delay": "1s",
    },
    "secure": {
        "smtpd_sasl_auth_enable": "yes",
        "smtpd_sasl_type": "dovecot",
        "smtpd_relay_restrictions": "permit_mynetworks, permit_sasl_authenticated,"
        " reject_unauth_destination",
        "smtpd_tls_security_level": "may",
        "smtpd_tls_loglevel": "1",
        "smtp_tls_security_level": "may",
        "smtp_tls_loglevel": "1",
        "smtp_tls_session_cache_database": "",
    },
}
RESOLVER = ("127.0.9.53", 53)
_IN_NAMESPACE = "FASTMTA_SITUATIONS_NAMESPACE"


def record(situations: Sequence[Situation], server: str) -> dict[str, dict[str, list[str]]]:
    """Lines and replies of Postfix, by the name of the situation."""
    receiver_port = free_port()
    hops = [(one, one.next_hop(receiver_port)) for one in situations]
    settings = {
        **COMMON,
        **SETTINGS[server],
        "transport_maps": _inline((one.domain, f"smtp:{hop}") for one, hop in hops),
    }
    directory = Path(tempfile.mkdtemp(prefix="situations-", dir="/var/tmp"))
    certificates = Certificates(directory, "mail.example", *certified(situations))
    with ExitStack() as stack:
        if server == "secure":
            dovecot = stack.enter_context(running_dovecot(USERS, "plain login"))
            stack.enter_context(naming(situations, *RESOLVER))
            settings |= {
                "smtpd_sasl_path": f"inet:127.0.0.1:{dovecot.port}",
                "smtpd_tls_chain_files": certificates.right,
                "smtp_tls_CAfile": certificates.trusted,
                "smtp_tls_policy_maps": _inline((hop, one.level) for one, hop in hops),
            }
        postfix = Postfix(directory, free_port(), settings=settings)
        stack.callback(remove, directory)
        stack.callback(postfix.stop)
        with listening(situations, receiver_port, certificates) as receivers:
            postfix.start()
            time.sleep(1)  # the look that start() takes at the port has logged its lines
            before = len(postfix.log_text())
            replies = talk(situations, postfix.port)
            _wait_for_quiet(postfix)
            log = postfix.log_text()[before:]
            reports = reports_by_situation(receivers, situations, receiver_port)
    lines = by_situation(log, situations, receiver_port)
    return {
        one.name: {
            "lines": lines[one.name],
            "replies": comparable_replies(replies[one.name], receiver_port),
            "reports": reports[one.name],
        }
        for one in situations
    }


def _inline(rows: Iterable[tuple[str, str]]) -> str:
    """A table within main.cf."""
    return f"inline:{{ {' '.join(f'{{ {key} = {value} }}' for key, value in rows)} }}"


def _wait_for_quiet(postfix: Postfix) -> None:
    deadline = time.monotonic() + _LONGEST_S
    size, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        now = len(postfix.log_text())
        if now != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > _QUIET_S:
            return
        time.sleep(0.2)


def main() -> None:
    """Record all of them, in a mount namespace whose name server is ours."""
    if _IN_NAMESPACE not in os.environ:
        command = ("unshare", "-m", sys.executable, "-m", "tests.interop.record_situations")
        os.execvpe(command[0], command, {**os.environ, _IN_NAMESPACE: "1"})
    with tempfile.NamedTemporaryFile("w", dir="/var/tmp") as resolver:
        resolver.write(f"nameserver {RESOLVER[0]}\noptions timeout:2 attempts:1\n")
        resolver.flush()
        os.chmod(resolver.name, 0o644)
        subprocess.run(["mount", "--bind", resolver.name, "/etc/resolv.conf"], check=True)
        _record_all()


def _record_all() -> None:
    everything = load()
    found: dict[str, dict[str, list[str]]] = {}
    for server in SETTINGS:
        found |= record([one for one in everything if one.server == server], server)
    ordered = {one.name: found[one.name] for one in everything}
    RECORDED.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
