"""Docstrings as the code has them, in reStructuredText, to Markdown for the API pages: a Griffe extension.

Formulas become ``$`` and ``$$``, which `formulas.py` turns into MathML; names in single backticks become links where
the site has a page for them; doctests become blocks of code. Shapes of `jaxtyping` keep their quotes.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        for obj in _objects(pkg):
            if obj.docstring is not None:
                obj.docstring.value = translated(obj.docstring.value, obj)
            _quote_shapes(obj)


def _objects(obj: griffe.Object) -> Iterator[griffe.Object]:
    yield obj
    for member in obj.members.values():
        if not member.is_alias:
            yield from _objects(member)  # pyright: ignore[reportArgumentType]


# --- text --------------------------------------------------------------------------------------------


def translated(text: str, obj: griffe.Object) -> str:
    """The Markdown of a docstring."""
    text = _formulas(text)
    text = _pairs(text)
    text = _returns(text)
    text = _literal_blocks(text)
    text = _doctests(text)
    text = re.sub(r":math:`([^`]+)`", lambda found: f"${_joined(found[1])}$", text)
    lines, fenced = [], False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        lines.append(line if fenced else _linked(line, obj))
    return "\n".join(lines)


def _joined(formula: str) -> str:
    return " ".join(formula.split())


def _formulas(text: str) -> str:
    """``.. math::`` with the indented lines below it, as ``$$``."""

    def block(found: re.Match[str]) -> str:
        # Inside an item of a list Markdown wants four spaces.
        indent, formula = "    " if found[1] == "  " else found[1], _joined(found[2])
        return f"\n{indent}$$\n{indent}{formula}\n{indent}$$\n\n"

    return re.sub(r"^( *)\.\. math::((?:[^\n]*\n?)(?:(?:\1 +[^\n]*)?\n)*(?:\1 +[^\n]*)?)", block, text, flags=re.M)


def _pairs(text: str) -> str:
    """An entry of two names, ``a, b: what they are``, as one of each."""
    pair = r"^( +)(\w+), (\w+): ((?:[^\n]*\n?)(?:\1 +[^\n]*\n?)*)"
    return re.sub(pair, r"\1\2: See \3.\n\1\3: With \2: \4", text, flags=re.M)


def _returns(text: str) -> str:
    """What is returned has no name and its type is in the signature: a colon there is a colon, a name an item."""

    def block(found: re.Match[str]) -> str:
        told = re.sub(r"^( +)(``\w+``): ((?:[^\n]*\n?)(?:\1 +[^\n]*\n?)*)", _item, found[2], flags=re.M)
        return found[1] + "".join(
            piece if i % 2 else piece.replace(":", "&#58;") for i, piece in enumerate(re.split(r"(`[^`]*`)", told))
        )

    return re.sub(r"^( *Returns:\n)((?: +[^\n]*\n?)+)", block, text, flags=re.M)


def _item(found: re.Match[str]) -> str:
    return f"{found[1]}- {found[2]}: {_joined(found[3])}\n"


def _literal_blocks(text: str) -> str:
    """Indented code after ``::`` as a fence."""

    def block(found: re.Match[str]) -> str:
        indent, code = found[1], textwrap.dedent(found[3]).strip("\n")
        return f"{indent}{found[2]}:\n\n" + textwrap.indent(f"```python\n{code}\n```", indent) + "\n"

    return re.sub(r"^( *)(\S[^\n]*?)::\n\n((?:\1 +[^\n]*\n?|\n)+)", block, text, flags=re.M)


def _doctests(text: str) -> str:
    """Lines from ``>>>`` to the next empty one as a fence."""

    def block(found: re.Match[str]) -> str:
        return f"{found[1]}```pycon\n{found[0].rstrip()}\n{found[1]}```\n"

    return re.sub(r"^( *)>>> .*(?:\n\1\S.*| *\n\1>>> .*)*\n?", block, text, flags=re.M)


REFERENCE = re.compile(r"(?<![`\w$])`([A-Za-z_][\w.]*)`(?!`)")


def _linked(line: str, obj: griffe.Object) -> str:
    """With links for the names in single backticks; the plain name where the site has no page for it."""
    pieces = re.split(r"(``.+?``|\$.+?\$)", line)
    return "".join(p if i % 2 else REFERENCE.sub(lambda m: _link(m[1], obj), p) for i, p in enumerate(pieces))


def _link(name: str, obj: griffe.Object) -> str:
    return f'<autoref optional identifier="{_path(name, obj)}"><code>{name}</code></autoref>'


def _path(name: str, obj: griffe.Object) -> str:
    """The full path of a name as it is written in the docstring of ``obj``."""
    if name.startswith("rdd_jax."):
        return name
    first = name.partition(".")[0]
    candidates = []
    scope: Any = obj
    while scope is not None:
        if first in scope.members:
            candidates.append(f"{scope.path}.{name}")
        scope = scope.parent
    root = obj.package
    candidates += [f"rdd_jax.{name}", *(f"{module.path}.{name}" for module in root.modules.values())]
    for candidate in candidates:
        if (found := _found(candidate, root)) is not None:
            return found
    return f"{obj.path}.{name}"


def _found(path: str, root: griffe.Module) -> str | None:
    """The canonical path, if there is such an object in the package."""
    try:
        return root[path.removeprefix(f"{root.path}.")].canonical_path
    except (KeyError, griffe.GriffeError):
        return None


# --- annotations -------------------------------------------------------------------------------------


def _quote_shapes(obj: griffe.Object) -> None:
    if obj.is_function:
        for parameter in obj.parameters:  # pyright: ignore[reportAttributeAccessIssue]
            _quoted(parameter.annotation)
        _quoted(obj.returns)  # pyright: ignore[reportAttributeAccessIssue]
    elif obj.is_attribute:
        _quoted(obj.annotation)  # pyright: ignore[reportAttributeAccessIssue]


def _quoted(annotation: Any) -> None:
    """Griffe reads the shape in ``Float[Array, " n"]`` as the name ``n``: its quotes again."""
    if isinstance(annotation, list | tuple):
        for part in annotation:
            _quoted(part)
    if not isinstance(annotation, griffe.Expr):
        return
    for field in fields(annotation):
        if field.name != "parent":
            _quoted(getattr(annotation, field.name))
    if isinstance(annotation, griffe.ExprSubscript) and _of_jaxtyping(annotation.left):
        inside = annotation.slice
        if isinstance(inside, griffe.ExprTuple):
            inside.elements = [inside.elements[0], *(_text(e) for e in inside.elements[1:])]


def _of_jaxtyping(left: Any) -> bool:
    return isinstance(left, griffe.Expr) and left.canonical_path.startswith("jaxtyping.")


def _text(element: Any) -> str:
    return element if isinstance(element, str) else f'"{element}"'
