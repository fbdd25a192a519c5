"""The house of the design: a folder is a floor, imports only go downstairs, the core is pure."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "src" / "yamabiko"
FLOORS = {"core": 0, "codecs": 1, "brokers": 1, "transports": 2, "django": 3}
CORE_MUST_NOT_IMPORT = {
    "asyncio",
    "concurrent",
    "multiprocessing",
    "sched",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
}
LOOKS_AT_THE_CLOCK = {"now", "utcnow", "today"}

Import = tuple[Path, str]


def modules_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def package_of(module: Path) -> str:
    return ".".join(module.relative_to(HOUSE.parent).parent.parts)


def imported_names(module: Path, source: str) -> Iterator[str]:
    """Yield the full dotted name of everything that `source` imports, relative imports resolved."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            base = resolve_name(origin, package_of(module))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_of(folder: Path) -> Iterator[Import]:
    for module in modules_in(folder):
        for name in imported_names(module, module.read_text(encoding="utf-8")):
            yield module.relative_to(HOUSE), name


def in_the_house(name: str) -> bool:
    return name.split(".")[0] == "yamabiko"


def room_of_the_house(name: str) -> str:
    """Return the folder or module right below yamabiko that an imported name lives in, '' for the package."""
    return [*name.split("."), ""][1]


def is_downstairs(visitor: str, host: str) -> bool:
    return visitor == host or FLOORS.get(host, 99) < FLOORS[visitor]


def offences(folder: Path, is_allowed) -> list[str]:
    return [f"{module} imports {name}" for module, name in imports_of(folder) if not is_allowed(name)]


@pytest.mark.parametrize("floor", FLOORS)
def test_every_floor_exists_and_has_modules(floor):
    modules = [module for module in modules_in(HOUSE / floor) if module.name != "__init__.py"]
    assert modules, f"{HOUSE / floor} holds no module: the laws below would hold for nothing"


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_only_go_downstairs(floor):
    def is_allowed(name):
        return not in_the_house(name) or is_downstairs(floor, room_of_the_house(name))

    assert offences(HOUSE / floor, is_allowed) == []


@pytest.mark.parametrize("floor", ["core", "codecs"])
def test_core_and_codecs_import_the_standard_library_and_msgspec_only(floor):
    allowed = (sys.stdlib_module_names | {"msgspec", "yamabiko"}) - CORE_MUST_NOT_IMPORT
    exceptions = {("codecs/sdk_schema.py", "google.protobuf")}

    def is_foreign(module, name):
        is_exception = any(name.startswith(f"{package}.") for path, package in exceptions if path == module.as_posix())
        return name.split(".")[0] not in allowed and not is_exception

    assert [found for found in imports_of(HOUSE / floor) if is_foreign(*found)] == []


@pytest.mark.parametrize("floor", ["core", "codecs"])
def test_core_and_codecs_never_look_at_the_clock(floor):
    looks = [
        f"{module.relative_to(HOUSE)}:{node.lineno} calls .{node.attr}"
        for module in modules_in(HOUSE / floor)
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in LOOKS_AT_THE_CLOCK
        if isinstance(node.value, ast.Name) and node.value.id in {"datetime", "date"}
    ]
    assert looks == []


@pytest.mark.parametrize("floor", ["core", "codecs", "brokers", "transports"])
def test_only_the_top_floor_knows_django(floor):
    exceptions = {("brokers/channels.py", "channels")}

    def is_foreign(module, name):
        package = name.split(".")[0]
        return package in {"django", "channels"} and (module.as_posix(), package) not in exceptions

    assert [found for found in imports_of(HOUSE / floor) if is_foreign(*found)] == []


def test_the_client_is_a_guest_that_imports_nothing_of_the_house():
    assert modules_in(HOUSE / "client"), "src/yamabiko/client holds no module"

    def is_allowed(name):
        package = name.split(".")[0]
        own = name == "yamabiko" or name.startswith("yamabiko.client")
        return package not in {"django", "channels"} and (own or not in_the_house(name))

    assert offences(HOUSE / "client", is_allowed) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import yamabiko.django.rooms", "yamabiko.django.rooms"),
        ("from yamabiko.django import rooms", "yamabiko.django.rooms"),
        ("from ..django import rooms", "yamabiko.django.rooms"),
        ("from . import frames", "yamabiko.core.frames"),
        (
            "def later():\n    from ..brokers.memory import MemoryBroker",
            "yamabiko.brokers.memory.MemoryBroker",
        ),
    ],
)
def test_an_import_is_found_however_it_is_written(source, found):
    assert list(imported_names(HOUSE / "core" / "node.py", source)) == [found]


def loaded_after(imports: list[str]) -> set[str]:
    """Return the top-level packages that a fresh interpreter has loaded after importing `imports`."""
    program = f"import sys, {', '.join(imports)}; print(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={"PYTHONPATH": str(HOUSE.parent)},
    )
    return set(run.stdout.split())


def module_names(folder: Path) -> list[str]:
    paths = (module.relative_to(HOUSE.parent).with_suffix("") for module in modules_in(folder))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def test_importing_yamabiko_and_its_core_does_not_import_django():
    loaded = loaded_after(["yamabiko", *module_names(HOUSE / "core"), *module_names(HOUSE / "codecs")])
    assert not loaded & {"django", "channels", "uvicorn", "websockets", "asyncio", "google"}


def test_importing_the_client_does_not_import_django():
    assert not loaded_after(["yamabiko.client"]) & {"django", "channels", "uvicorn"}
