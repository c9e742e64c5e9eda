"""Where sockets and shards are."""

from pathlib import Path
from types import ModuleType

import pytest

import fastmta.config
import fastmta.control
import fastmta.daemon
from fastmta.control.place import shards_on_disk, socket_path, socket_paths


def test_sockets_and_shards_are_found_by_name(tmp_path: Path) -> None:
    for name in (
        "control-1.sock",
        "control-0.sock",
        "control-x",
        "shard-02",
        "shard-00",
        "shard-a",
    ):
        (tmp_path / name).mkdir()
    assert socket_paths(str(tmp_path)) == [socket_path(str(tmp_path), n) for n in (0, 1)]
    assert shards_on_disk(str(tmp_path)) == [0, 2]
    assert socket_paths(str(tmp_path / "none")) == shards_on_disk(str(tmp_path / "none")) == []


@pytest.mark.parametrize("room", [fastmta.control, fastmta.config, fastmta.daemon])
def test_every_name_of_a_lazy_face_is_there(room: ModuleType) -> None:
    names = room.__all__
    assert all(getattr(room, name) is not None for name in names)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = room.nothing
