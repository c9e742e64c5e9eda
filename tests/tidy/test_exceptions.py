"""Named exceptions do not outlive their need."""

from tests.tidy import cython, layers, style
from tests.tidy.exceptions import EXCEPTIONS
from tests.tidy.source import extension_files, package_files, python_files


def test_every_exception_is_still_needed() -> None:
    needed = set()
    paths = {path for _, path in EXCEPTIONS}
    package = [source for source in package_files() if source.path in paths]
    extensions = [source for source in extension_files() if source.path in paths]
    python = [source for source in python_files() if source.path in paths]
    for source in package + extensions:
        for check in (layers.check_table, layers.check_pure, layers.check_private):
            if not source.path.startswith("ext/pxd/"):
                needed |= {(one.check, one.path) for one in check(source)}
    for source in package:
        needed |= {(one.check, one.path) for one in layers.check_dynamic(source)}
    needed |= {(one.check, one.path) for one in layers.unused_modules(package_files())}
    for source in python + extensions:
        needed |= {(one.check, one.path) for one in style.findings(source)}
    for source in extensions:
        needed |= {(one.check, one.path) for one in cython.findings(source)}
    assert sorted(set(EXCEPTIONS) - needed) == []


def test_every_exception_has_a_reason() -> None:
    assert [key for key, reason in EXCEPTIONS.items() if len(reason.split()) < 4] == []
