"""The configuration: its schema, and how it is read from file, environment and flags.

Purpose   One checked, frozen `Config` for the daemon, or every problem at once with its place.
In        A TOML file, environment variables, `section.key=value` flags.
Out       `Config`, or `ConfigError` with all `Problem`s.
Holds     Nothing.
Never     Starts, opens or resolves anything but its own files and, when unset, the host's name.
Fails     `ConfigError`; a configuration with any problem is not used at all.
Why       Rooms take their own settings as arguments; only daemon and cli know this schema.
"""

from .address import Endpoint, Network
from .inbound import Listen
from .load import load
from .outbound import Delivery, Retry
from .problem import ConfigError, Problem
from .relay import Relay
from .schema import Config, Limits, Spool

__all__ = [
    "Config",
    "ConfigError",
    "Delivery",
    "Endpoint",
    "Limits",
    "Listen",
    "Network",
    "Problem",
    "Relay",
    "Retry",
    "Spool",
    "load",
]
