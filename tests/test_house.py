"""The rooms: who may look into which, and what a room shows of itself."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "rdd_jax"
FILES = {".".join(("rdd_jax", *file.relative_to(ROOT).with_suffix("").parts)): file for file in ROOT.rglob("*.py")}
MODULES = {name.removesuffix(".__init__"): file for name, file in FILES.items()}
LONGEST_FILE, LONGEST_FUNCTION = 300, 60


def imports(tree):
    """The modules of this package that are imported when a file is, ``TYPE_CHECKING`` apart."""
    typing_only = {
        inner for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }  # fmt: skip
    functions = {
        inner for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for inner in ast.walk(node)
    }  # fmt: skip
    for node in ast.walk(tree):
        if node in typing_only or node in functions:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("rdd_jax"):
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                yield deeper if deeper in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("rdd_jax"))


TREES = {name: ast.parse(file.read_text()) for name, file in MODULES.items()}
GRAPH = {name: set(imports(tree)) - {name} for name, tree in TREES.items()}


def test_nothing_outside_looks_into_the_program():
    found = {name: {to for to in tos if to.startswith("rdd_jax.app")} for name, tos in GRAPH.items()}
    assert not {name: tos for name, tos in found.items() if tos and not name.startswith("rdd_jax.app")}


def test_there_are_no_circles():
    left = {name: set(tos) for name, tos in GRAPH.items()}
    while free := [name for name, tos in left.items() if not tos & set(left)]:
        for name in free:
            del left[name]
    # A package and its own files are one room.
    rooms = {name.split(".")[1] if "." in name else name for name in left}
    assert not left, f"circles among {sorted(rooms)}: {left}"


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_is_public_and_it_is_there(name):
    tree = TREES[name]
    (listed,) = [
        node.value for node in tree.body
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["__all__"]
    ]  # fmt: skip
    public = set(ast.literal_eval(listed))
    if name == "rdd_jax":  # imports on demand; see test_saving and the notebooks
        return
    defined = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
            assert node.name.startswith("_") or node.name in public, f"{node.name} is neither private nor in __all__"
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            defined |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    assert public <= defined


@pytest.mark.parametrize("name", MODULES)
def test_files_and_functions_are_short_and_explained(name):
    text, tree = MODULES[name].read_text(), TREES[name]
    assert len(text.splitlines()) < LONGEST_FILE
    assert ast.get_docstring(tree), "a module says what it is about"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            length = node.end_lineno - node.lineno + 1
            documented = ast.get_docstring(node)
            told = len(documented.splitlines()) + 2 if documented else 0
            assert length - told <= LONGEST_FUNCTION, f"{node.name} has {length - told} lines of code"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_the_top_has_what_it_names():
    import rdd_jax

    for name in rdd_jax.__all__:
        assert getattr(rdd_jax, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = rdd_jax.lod
