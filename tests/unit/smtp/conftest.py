"""Each wire test runs on the compiled implementation and on its twin."""

from typing import Any

import pytest

from fastmta.smtp import (
    _content,
    _framing,
    _path,
    _reply,
    content_py,
    framing_py,
    path_py,
    reply_py,
)

BOTH = ("compiled", "twin")


@pytest.fixture(params=BOTH)
def framing_class(request: pytest.FixtureRequest) -> Any:
    return {"compiled": _framing.Framing, "twin": framing_py.Framing}[request.param]


@pytest.fixture(params=BOTH)
def path(request: pytest.FixtureRequest) -> Any:
    return {"compiled": _path, "twin": path_py}[request.param]


@pytest.fixture(params=BOTH)
def content(request: pytest.FixtureRequest) -> Any:
    return {"compiled": _content, "twin": content_py}[request.param]


@pytest.fixture(params=BOTH)
def reader_class(request: pytest.FixtureRequest) -> Any:
    return {"compiled": _reply.ReplyReader, "twin": reply_py.ReplyReader}[request.param]
