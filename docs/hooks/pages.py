"""The reference pages, made from the code when the site is built: a page a room, and a page a command."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import rdd_jax
from rdd_jax.app import options
from rdd_jax.app.commands import COMMANDS
from rdd_jax.app.methods import METHODS

ROOT = Path(rdd_jax.__file__).parent
HIDDEN = {"app", "__main__"}
"""The program: its commands have pages, its modules have none."""

RUN = """## The run

| option | what | default |
|---|---|---|
| `--out RUN` | the run folder to make; must not exist | `runs/DATA-METHOD-...` |
| `--config FILE` | options from a `.toml` or `.json` file; options beside it win | unset |
| `--resume RUN` | go on with a run that was stopped | unset |"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for room in rooms():
        files.append(File.generated(config, f"reference/api/{room}.md", content=room_page(room)))
    for name in METHODS:
        files.append(File.generated(config, f"reference/options/{name}.md", content=method_page(name)))
    for name, asked in COMMANDS.items():
        files.append(File.generated(config, f"reference/options/{name}.md", content=command_page(name, asked)))
    return files


# --- rooms -------------------------------------------------------------------------------------------


def rooms() -> list[str]:
    """The modules and packages directly under `rdd_jax`."""
    found = {path.stem for path in ROOT.glob("[!_]*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    return sorted(found - HIDDEN)


def room_page(room: str) -> str:
    """The room, and those of its modules that have public names of their own."""
    module = importlib.import_module(f"rdd_jax.{room}")
    told = [f"# `{room}` {{#rdd_jax.{room}}}", f"::: rdd_jax.{room}"]
    shown = {id(getattr(module, name)) for name in getattr(module, "__all__", ())}
    for path in _modules(room):
        inner = importlib.import_module(path)
        names = [name for name in _public(inner) if id(getattr(inner, name)) not in shown]
        if names:
            told += [f"## `{path.removeprefix('rdd_jax.')}` {{#{path}}}", _directive(path, names)]
    return "\n\n".join(told) + "\n"


def _modules(room: str) -> Iterator[str]:
    """Packages and modules within a room, those that are private left out."""
    for path in sorted((ROOT / room).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if len(parts) > 1 and not any(part.startswith("_") for part in parts):
            yield ".".join(("rdd_jax", *parts))


def _public(module) -> list[str]:
    """What a module offers: ``__all__``, or the names without an underscore that it defines itself."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not hasattr(getattr(module, name), "__path__")]
    names: list[str] = []
    for node in ast.parse(Path(module.__file__).read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.append(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.append(name)
    return [name for name in names if not name.startswith("_")]


def _directive(path: str, names: list[str]) -> str:
    listed = "\n".join(f"        - {name}" for name in names)
    return f"::: {path}\n    options:\n      heading_level: 3\n      members:\n{listed}"


# --- commands ----------------------------------------------------------------------------------------


def method_page(name: str) -> str:
    """All options of ``rdd distill NAME``."""
    method = METHODS[name]
    told = [f"# `rdd distill {name}`", str(method.__doc__), *tables(method()), RUN]
    return "\n\n".join(told) + "\n"


def command_page(name: str, asked) -> str:
    """All options of another command."""
    return "\n\n".join([f"# `rdd {name}`", str(asked.__doc__), *tables(asked)]) + "\n"


def tables(config) -> Iterator[str]:
    """A table of options a section."""
    section, rows = None, []
    for field in options.options(config):
        if field.section != section and rows:
            yield _table(section, rows)
            rows = []
        section = field.section
        rows.append(field)
    if rows:
        yield _table(section, rows)


def _table(section: str | None, rows: list[options.Field]) -> str:
    title = f"## {section.capitalize()}" if section else "## General"
    lines = [title, "", "| option | what | default |", "|---|---|---|"]
    lines += [f"| {_flag(row)} | {_cell(row.option.help)} | {_default(row)} |" for row in rows]
    return "\n".join(lines)


def _flag(row: options.Field) -> str:
    if row.option.positional:
        return f"`{row.name.upper()}`"
    name = row.name.replace("_", "-")
    return f"`--{name}`, `--no-{name}`" if row.type is bool else f"`--{name} {row.option.metavar}`"


def _default(row: options.Field) -> str:
    if row.option.positional:
        return "to be given"
    if row.default is None or row.default == "":
        return "unset"
    return {True: "yes", False: "no"}[row.default] if isinstance(row.default, bool) else f"`{row.default}`"


def _cell(text: str) -> str:
    for name in ("|", "*"):
        text = text.replace(name, f"\\{name}")
    return text
