"""Typed dataclasses of `options` as configuration files."""

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from rdd_jax.app.options import Field, T, options, updated, wanted
from rdd_jax.errors import InputError, unknown

__all__ = ["from_values", "to_values"]


def from_values(config: T, values: dict[str, Any], where: str) -> T:
    """The configuration with the values of a file, section by section, in the place of what it had.

    Raises:
      InputError: an unknown section or key (the nearest is named), or a value of another type.
    """
    known = {(field.section, field.name): field for field in options(config)}
    sections = {field.section for field in known.values()} - {None}
    given: dict[str, Any] = {}
    for key, value in values.items():
        if key in sections and not isinstance(value, dict):
            raise InputError(f"{where}: {key} is {value!r}, but it is a section: give its options")
        section, pairs = (key, value) if isinstance(value, dict) else (None, {key: value})
        if section is not None and section not in sections:
            raise InputError(f"{where}: {unknown('section', key, sorted(map(str, sections)))}")
        for name, one in pairs.items():
            if (section, name) not in known:
                raise _unknown_key(where, section, name, known)
            given[name] = _typed(where, known[section, name], one)
    return updated(config, given)


def _unknown_key(where: str, section: str | None, name: str, known: Collection[tuple[str | None, str]]) -> InputError:
    """The error for a key that a section does not have; where another has it, that one is named."""
    dotted = {".".join(filter(None, pair)): pair for pair in known}
    homes = [f"{path!r}" for path, (_, other) in dotted.items() if other == name]
    given = ".".join(filter(None, (section, name)))
    if homes:
        return InputError(f"{where}: unknown option {given!r}: did you mean {homes[0]}?")
    return InputError(f"{where}: {str(unknown('option', given, dotted)).partition(' choose from')[0]}")


def _typed(where: str, field: Field, value: Any) -> Any:
    kind = field.type
    if (value is None and field.optional) or value in field.words:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        path = ".".join(filter(None, (field.section, field.name)))
        raise InputError(f"{where}: {path} is {value!r}: give {wanted(field)}")
    return value


def to_values(config: Any) -> dict[str, Any]:
    """The sections and options of a configuration as plain values: what `from_values` takes back."""
    return asdict(config)
