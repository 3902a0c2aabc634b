"""Recipes as they are written: plain values, JSON and TOML files, the words of an option, an array beside a set."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from rdd_jax.arrays import read_npz
from rdd_jax.errors import InputError, unknown
from rdd_jax.files import read_values, write_json, write_text
from rdd_jax.networks.recipes import NETWORK_FIELDS, RECIPES, Recipe, recipe_by_name

__all__ = [
    "carried",
    "from_array",
    "from_values",
    "read_recipe",
    "recipe_of",
    "spelt",
    "to_array",
    "to_values",
    "write_recipe",
]

KINDS = {field.name: int if field.default is None else type(field.default) for field in fields(Recipe)}


def to_values(recipe: Recipe) -> dict[str, Any]:
    """What `from_values` takes back: names, numbers and None."""
    return asdict(recipe)


def from_values(values: Mapping[str, Any], where: str = "recipe", start: Recipe | None = None) -> Recipe:
    """The recipe with ``values`` in the place of those of ``start`` (DC's).

    Of ``epochs`` and ``steps`` the one that is given takes the place of the other.

    Raises:
      InputError: an unknown key (the nearest is named), or a value that it cannot have; ``where`` they stand.
    """
    given = dict(values)
    for one, other in (("epochs", "steps"), ("steps", "epochs")):
        if given.get(one) is not None:
            given.setdefault(other, None)
    for name, value in given.items():
        if name not in KINDS:
            raise InputError(f"{where}: {unknown('key', name, KINDS)}")
        given[name] = _typed(where, name, value)
    try:
        return replace(start or Recipe(), **given)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


WANTED = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}


def _typed(where: str, name: str, value: Any) -> Any:
    kind = KINDS[name]
    if value is None and name in ("epochs", "steps"):
        return None
    if type(value) not in ((int, float) if kind is float else (kind,)):
        raise InputError(f"{where}: {name} is {value!r}: give {WANTED[kind]}")
    return value


def read_recipe(file: Path | str) -> Recipe:
    """The recipe of a JSON or TOML file; a key that is not there has DC's value. Raises `InputError`, naming both."""
    return from_values(read_values(Path(file)), str(file))


def write_recipe(file: Path | str, recipe: Recipe) -> None:
    """Writes a recipe as JSON, or as TOML where the file's name ends so; `read_recipe` takes it back."""
    file, values = Path(file), to_values(recipe)
    if file.suffix == ".toml":
        said = {key: value for key, value in values.items() if value is not None}  # for which TOML has no word
        write_text(file, "".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items()))
    else:
        write_json(file, values)


def to_array(recipe: Recipe) -> np.ndarray:
    """A recipe as an array of text, such as an ``.npz`` holds."""
    return np.array(json.dumps(to_values(recipe)))


def from_array(array: np.ndarray, where: str) -> Recipe:
    """The recipe of `to_array`; raises `InputError`, naming ``where``, if it is none."""
    try:
        values = json.loads(str(array))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: recipe is no JSON ({error}): leave it out, or write it again") from error
    if not isinstance(values, dict):
        raise InputError(f"{where}: recipe holds a {type(values).__name__}, expected names and values")
    return from_values(values, f"{where}: recipe")


def carried(file: Path) -> Recipe | None:
    """The recipe that an ``.npz`` carries; raises `InputError` where it is broken."""
    array = read_npz(file, (), ("recipe",)).get("recipe")
    return None if array is None else from_array(array, repr(str(file)))


def recipe_of(words: str, images: int, classes: int) -> Recipe:
    """The recipe that words say, ``NAME`` or ``FILE`` and what is changed: ``dsa,epochs=1500``.

    Args:
      images: of the set, of all classes together.

    Raises:
      InputError: an unknown name or key, a file that cannot be read, or a value that a key cannot have.
    """
    name, *changes = (part.strip() for part in words.split(","))
    is_file = Path(name).suffix in (".json", ".toml")
    start = read_recipe(name) if is_file else recipe_by_name(name, images, classes)
    pairs = [change.partition("=") for change in changes]
    if wrong := [key for key, equals, _ in pairs if not equals]:
        raise InputError(f"recipe {words!r}: {wrong[0]!r} is no change: give NAME,key=value,...")
    keys = [key for key, _, _ in pairs]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise InputError(f"recipe {words!r}: say {twice[0]} once")
    return from_values({key: _value(key, text) for key, _, text in pairs}, f"recipe {words!r}", start)


def _value(key: str, text: str) -> Any:
    """What the text says; where it is no value of the key's, the text."""
    kind = KINDS.get(key, str)
    if kind is bool:
        return {"true": True, "false": False}.get(text, text)
    try:
        return kind(text)
    except ValueError:
        return text


def spelt(recipe: Recipe, images: int, classes: int, network: bool = True) -> str:
    """The fewest words that say a recipe: what `recipe_of` takes back.

    Args:
      network: whether to say which network, too, and not only how it is trained.
    """
    found = []
    for name in RECIPES:
        start, wanted = (to_values(one) for one in (recipe_by_name(name, images, classes), recipe))
        changed = [key for key in wanted if wanted[key] != start[key] and wanted[key] is not None]
        parts = [f"{key}={_word(wanted[key])}" for key in changed if network or key not in NETWORK_FIELDS]
        found.append([name, *parts])
    return ",".join(min(found, key=len))


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
