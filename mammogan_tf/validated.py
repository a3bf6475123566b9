"""Frozen dataclasses that validate themselves and survive a JSON round trip."""

import contextlib
import dataclasses
import math
import typing
from typing import Any, TypeVar

from mammogan_tf.errors import ConfigError

__all__ = ["Validated", "from_dict", "require", "to_dict"]

C = TypeVar("C")


def require(holds: bool, name: str, expected: str, received: Any) -> None:
    """Raises ConfigError, in one line, unless what is expected of the value of this name holds."""
    if not holds:
        raise ConfigError(f"{name}: expected {expected}, received: {received}")


_IN_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    tuple[int, ...]: "a list of whole numbers",
    tuple[str, ...]: "a list of words",
}


def _is_a(value: Any, hint: Any) -> bool:
    """Whether a value is of the type of a field. A bool is no number, and neither is an infinity."""
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_a(item, typing.get_args(hint)[0]) for item in value)
    return type(value) is hint and (hint is not float or math.isfinite(value))


def _converted(value: Any, hint: Any) -> Any:
    """A value as the type of a field has it, where another form of it was given; anything else as it is."""
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_dict(typing.cast(type, hint), value)
    if isinstance(value, list):
        return tuple(value)
    if getattr(value, "ndim", None) == 0:  # A number of NumPy's.
        value = value.item()
    if hint is float and type(value) is int:
        with contextlib.suppress(OverflowError):
            return float(value)
    return value


class Validated:
    """A dataclass whose fields are of their types.

    A list stands for a tuple, a dict for a dataclass, a whole number for a float, and a number of NumPy's for one of Python's.
    """

    def __post_init__(self) -> None:
        for name, hint in typing.get_type_hints(type(self)).items():
            value = _converted(getattr(self, name), hint)
            require(_is_a(value, hint), name, _IN_WORDS.get(hint, "named values"), repr(value)[:100])
            object.__setattr__(self, name, value)


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON types."""
    return dataclasses.asdict(config)


def from_dict(kind: type[C], values: dict[str, Any]) -> C:
    """The config that :func:`to_dict` turned into ``values``.

    Raises:
        ConfigError: an unknown name or a value that is not acceptable.
    """
    require(isinstance(values, dict), kind.__name__, "named values", repr(values))
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    require(not unknown, kind.__name__, f"the names {', '.join(hints)}", ", ".join(unknown))
    return kind(**values)
