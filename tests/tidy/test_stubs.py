"""Every compiled module has a stub beside it, and the two name the same things."""

import ast
import importlib
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest

from tests.tidy.cython import module_of
from tests.tidy.source import ROOT, Source, files

MACHINERY = {"annotations"}
MODULES = files("ext/*/*.pyx")


def stub_names(tree: ast.Module) -> Iterator[tuple[str, ...]]:
    """(name,) of what a stub declares at top level, (class, name) of what its classes declare."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(
            getattr(parent, "id", "") == "Protocol" for parent in node.bases
        ):
            continue  # describes an argument; the compiled module needs no such name
        for name in declared(node):
            yield (name,)
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                for name in declared(inner):
                    yield (node.name, name)


def declared(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        if getattr(node.annotation, "id", "") == "TypeAlias":
            return []  # for the reader and the checker only
        return [node.target.id]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def absent(stub: str, module: object) -> list[str]:
    """What the stub declares and the module has not."""
    missing = []
    for path in stub_names(ast.parse(stub)):
        owner = module
        for name in path:
            if not hasattr(owner, name):
                missing.append(".".join(path))
                break
            owner = getattr(owner, name)
    return missing


def undeclared(stub: str, module: ModuleType) -> list[str]:
    """Functions and classes made in the module that its stub does not tell of."""
    told = {path[0] for path in stub_names(ast.parse(stub))} | MACHINERY
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and callable(value)
        and getattr(value, "__module__", module.__name__) == module.__name__
    ]
    return sorted(set(own) - told)


@pytest.mark.parametrize("source", MODULES, ids=[source.path for source in MODULES])
def test_stub_and_module_agree(source: Source) -> None:
    name, stub = module_of(source)
    assert (ROOT / stub).exists(), f"{stub} is missing"
    text = (ROOT / stub).read_text()
    module = importlib.import_module(name)
    assert absent(text, module) == []
    assert undeclared(text, module) == []


def test_no_stub_without_module() -> None:
    wanted = {str(module_of(source)[1]) for source in MODULES}
    assert {source.path for source in files("fastmta/*/_*.pyi")} - wanted == set()


def test_stale_stub_is_found() -> None:
    module = SimpleNamespace(f=len, A=SimpleNamespace(size=1))
    assert absent("class P(Protocol):\n    size: int\n", module) == []
    assert absent("def f(): ...\nclass A:\n    size: int\n", module) == []
    stale = "def g(): ...\nclass A:\n    size: int\n    def gone(self): ...\nX: int\n"
    assert absent(stale, module) == ["g", "A.gone", "X"]


def test_untold_function_is_found() -> None:
    module = ModuleType("m")
    vars(module).update(f=lambda: None, _private=len)
    module.f.__module__ = "m"
    assert undeclared("", module) == ["f"]
    assert undeclared("def f(): ...", module) == []
