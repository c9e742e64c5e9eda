"""The keys of metrics and health checks."""

from dataclasses import dataclass
from typing import Annotated

from .address import Endpoint, Socket
from .key import Key
from .kind import Flag, Integer, Listing
from .target import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Where `/metrics`, `/healthz` and `/readyz` are served over HTTP; see docs/metrics.md."""

    bind: Annotated[
        tuple[Endpoint, ...],
        Key(
            Listing(Socket()),
            "Where the front desk listens, such as `127.0.0.1:8025`; empty: there is none.",
        ),
    ] = ()
    token: Annotated[
        str,
        Key(
            Secret(),
            "What `/metrics` asks for as `Authorization: Bearer ...`; empty: nothing. Set one when "
            "others than you can reach `bind`: names of destinations and tenants are shown.",
        ),
    ] = ""
    destinations: Annotated[
        int,
        Key(
            Integer(1, 1000),
            "Destinations with metrics of their own, for each worker, the largest first; the "
            "others are counted together, by provider.",
        ),
    ] = 100
    postfix_names: Annotated[
        bool,
        Key(Flag(), "Show the counts under the names of the exporters for Postfix, too."),
    ] = False
