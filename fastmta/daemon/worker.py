"""One worker: an event loop, a listener, and the shards it owns."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from dataclasses import dataclass

import uvloop

from fastmta.config import Config
from fastmta.event import Notice, Severity

from .sockets import Bound
from .supervisor import ADOPT, EXIT_OK, EXIT_SPOOL_FAILED, Leash
