"""The configuration: its schema, and how it is read from file, environment and flags.

Purpose   One checked, frozen `Config` for the daemon, or every problem at once with its place.
In        A TOML file, environment variables, `section.key=value` flags.
Out       `Config`, or `ConfigError` with all `Problem`s.
Holds     Nothing.
Never     Starts, opens or resolves anything but its own files and, when unset, the host's name.
Fails     `ConfigError`; a configuration with any problem is not used at all.
Why       Rooms take their own settings as arguments; only daemon and cli know this schema.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from .address import Endpoint, Network
    from .inbound import Listen
    from .loader import load
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


def __getattr__(name: str) -> object:
    """The schema takes longer to import than some commands may take altogether."""
    home: ModuleType
    if name in ("Config", "Limits", "Spool"):
        from . import schema as home
    elif name == "load":
        from .loader import load

        return load  # and not the module of that name
    elif name in ("ConfigError", "Problem"):
        from . import problem as home
    elif name in ("Endpoint", "Network"):
        from . import address as home
    elif name in ("Delivery", "Retry"):
        from . import outbound as home
    elif name == "Listen":
        from . import inbound as home
    elif name == "Relay":
        from . import relay as home
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, name)
