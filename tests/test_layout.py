"""The shape of the tree: names, sizes, and who may import whom. Reads sources, imports nothing."""

from __future__ import annotations

import ast
import functools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("sencache", "pipeline", "jobs")
MOST_MODULES, MOST_LINES = 14, 300
LAUNCHER = "jobs.benchmark"
"""The one product module that knows the benchmarks: it starts them by name."""
PRIVATE_RAY = ("ray._private", "ray._raylet", "ray.data._internal")
RAY_COMPAT, PROCESS = "pipeline.cluster.ray_compat", "pipeline.process"


@dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
        module: The module that imports.
        target: What is imported, as `package.module` or `package.module.name`.
        lazy: Whether it stands inside a function.
    """

    module: str
    target: str
    lazy: bool


@dataclass(frozen=True)
class Source:
    """One module of the product."""

    name: str
    path: Path
    is_package: bool

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text())

    def imports(self) -> Iterator[Import]:
        for node, lazy in _walk(self.tree, lazy=False):
            if isinstance(node, ast.Import):
                yield from (Import(self.name, alias.name, lazy) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                yield from (Import(self.name, f"{base}.{a.name}", lazy) for a in node.names)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        parts = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*parts, *([node.module] if node.module else [])])


def _walk(node: ast.AST, *, lazy: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = lazy or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield child, inside
        yield from _walk(child, lazy=inside)


@functools.cache
def sources() -> dict[str, Source]:
    """Every module of the product by its name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            found[name] = Source(name, path, is_package)
    return found


@functools.cache
def all_imports() -> list[Import]:
    return [each for source in sources().values() for each in source.imports()]


def module_of(target: str) -> str | None:
    """The module of ours that an imported name comes from."""
    while target and target not in sources():
        target = target.rpartition(".")[0]
    return target or None


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def offenders(by: Sequence[str], of: Sequence[str], but: Sequence[str] = ()) -> list[str]:
    """Imports `of` some packages `by` some others, but for some modules."""
    return [
        f"{each.module} imports {each.target}"
        for each in all_imports()
        if within(each.module, *by) and within(each.target, *of) and each.module not in but
    ]


def test_the_sources_are_found() -> None:
    assert {"sencache", "pipeline.run", LAUNCHER, PROCESS} <= sources().keys()
    assert Import("pipeline.run", "__future__.annotations", lazy=False) in all_imports()


def test_every_class_name_is_used_once() -> None:
    places = defaultdict(list)
    for source in sources().values():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{source.name}:{node.lineno}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_folder_has_too_many_modules() -> None:
    count = Counter(source.path.parent for source in sources().values() if not source.is_package)
    large = {str(folder): n for folder, n in count.items() if n > MOST_MODULES}
    assert large == {}


def test_no_module_is_too_long() -> None:
    lines = {name: len(each.path.read_text().splitlines()) for name, each in sources().items()}
    assert {name: n for name, n in lines.items() if n > MOST_LINES} == {}


def test_every_package_says_what_it_is() -> None:
    packages = [each for each in sources().values() if each.is_package]
    assert [each.name for each in packages if not ast.get_docstring(each.tree)] == []
    folders = {source.path.parent for source in sources().values()}
    assert folders == {each.path.parent for each in packages}


@pytest.mark.parametrize("lazy", [False, True])
def test_no_import_leads_in_a_circle(lazy: bool) -> None:
    """Imports for type checkers count; those inside functions are looked at on their own too."""
    graph: dict[str, set[str]] = defaultdict(set)
    for each in all_imports():
        target = module_of(each.target)
        if target and target != each.module and (lazy or not each.lazy):
            graph[each.module].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_sencache_knows_neither_the_pipeline_nor_ray() -> None:
    assert offenders(["sencache"], ["pipeline", "jobs", "ray"]) == []


def test_the_pipeline_does_not_know_the_jobs() -> None:
    assert offenders(["pipeline"], ["jobs"]) == []


def test_the_product_does_not_know_the_benchmarks() -> None:
    found = offenders(PACKAGES, ["jobs.benchmarks"], but=[LAUNCHER])
    assert [each for each in found if not each.startswith("jobs.benchmarks")] == []


def public_modules() -> list[str]:
    """`sencache`, and the modules that its docstring names as public."""
    words = (ast.get_docstring(sources()["sencache"].tree) or "").replace("`", " ").split()
    named = {word.rstrip(".,:;()") for word in words}
    return ["sencache", *sorted(named & {s for s in sources() if s.startswith("sencache.")})]


def test_the_pipeline_uses_only_what_sencache_makes_public() -> None:
    public = public_modules()
    used = [
        each
        for each in all_imports()
        if within(each.module, "pipeline", "jobs")
        and not within(each.module, "jobs.benchmarks")
        and within(each.target, "sencache")
    ]
    assert used
    assert [
        f"{each.module} imports {each.target}"
        for each in used
        if module_of(each.target) not in public
    ] == []


def test_private_ray_stands_in_one_module() -> None:
    assert offenders(PACKAGES, PRIVATE_RAY, but=[RAY_COMPAT]) == []


def test_a_process_ends_at_once_in_one_module() -> None:
    ends = {
        f"{source.name}:{node.lineno}"
        for source in sources().values()
        if source.name != PROCESS
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and node.attr == "_exit"
    }
    assert ends == set()


def test_every_actor_begins_with_what_ends_its_process() -> None:
    """An actor that has loaded nothing can hang on its way out as well as any other one."""
    begins = {}
    for source in sources().values():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Actor"):
                own = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
                begins[node.name] = ast.unparse(own["__init__"].body[1])  # after its docstring
    assert {"GroupActor", "RowsActor", "LedgerActor", "IntakeActor"} <= begins.keys()
    assert {name: first for name, first in begins.items() if first != "begin_actor()"} == {}


TESTS = ROOT / "tests"
TESTS_OF_THEIR_OWN = {
    "e2e",
    "chaos",
    "gpu",
    "golden",
    "infra",
    "docs",
    "field",
    "support",
    "mutants",
}
"""Folders of tests that are about no one package."""


MOST_LINES_OF_TESTS = 390
"""A table of cases is long without being hard to read, so tests may be longer than the product."""


def test_no_module_of_tests_is_too_long() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in TESTS.rglob("*.py")}
    assert Path(__file__) in lines
    long = {path.relative_to(TESTS): n for path, n in lines.items() if n > MOST_LINES_OF_TESTS}
    assert long == {}


def test_the_tests_mirror_the_tree() -> None:
    """Each folder of tests is named after one of the tree; a test named after a module is in its
    folder."""
    astray = []
    homes: dict[str, set[Path]] = defaultdict(set)
    for source in sources().values():
        homes[source.path.stem].add(source.path.parent.relative_to(ROOT))
    for path in sorted(TESTS.rglob("*.py")):
        folder = path.parent.relative_to(TESTS)
        if not folder.parts or TESTS_OF_THEIR_OWN & set(folder.parts):
            continue
        if not (ROOT / folder / "__init__.py").is_file():
            astray.append(f"{folder}: there is no such package")
        module = path.stem.removeprefix("test_")
        of_this_package = {home for home in homes[module] if home.parts[0] == folder.parts[0]}
        if path.stem.startswith("test_") and of_this_package and folder not in of_this_package:
            astray.append(f"{path.relative_to(ROOT)}: {module}.py is in {of_this_package}")
    assert astray == []
