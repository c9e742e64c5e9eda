"""Records tests/vectors/situations.json: what Debian's Postfix prints in each situation.

    python -m tests.interop.record_situations        (as root, with Debian's postfix)

Once more after each change of situations.toml; `test_situations.py` says so when it is needed.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fastmta.lab.loopback import free_port
from fastmta.lab.postfix import Postfix, remove
from tests.support.situation.compare import by_situation, comparable_replies
from tests.support.situation.play import listening, talk
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
}


def record(situations: Sequence[Situation], server: str) -> dict[str, dict[str, list[str]]]:
    """Lines and replies of Postfix, by the name of the situation."""
    receiver_port = free_port()
    routes = " ".join(
        f"{{ {one.domain} = smtp:"
        + ", ".join(f"[{host}]:{receiver_port}" for host in one.hosts)
        + " }"
        for one in situations
    )
    settings = {**COMMON, **SETTINGS[server], "transport_maps": f"inline:{{ {routes} }}"}
    directory = Path(tempfile.mkdtemp(prefix="situations-", dir="/var/tmp"))
    postfix = Postfix(directory, free_port(), settings=settings)
    try:
        with listening(situations, receiver_port) as receivers:
            postfix.start()
            time.sleep(1)  # the look that start() takes at the port has logged its lines
            before = len(postfix.log_text())
            replies = talk(situations, postfix.port)
            _wait_for_quiet(postfix)
            log = postfix.log_text()[before:]
            reports = reports_by_situation(receivers, situations, receiver_port)
    finally:
        postfix.stop()
        remove(directory)
    lines = by_situation(log, situations, receiver_port)
    return {
        one.name: {
            "lines": lines[one.name],
            "replies": comparable_replies(replies[one.name], receiver_port),
            "reports": reports[one.name],
        }
        for one in situations
    }


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
    """Record all of them."""
    everything = load()
    found: dict[str, dict[str, list[str]]] = {}
    for server in SETTINGS:
        found |= record([one for one in everything if one.server == server], server)
    ordered = {one.name: found[one.name] for one in everything}
    RECORDED.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
