"""Checks of a configuration's values, with messages that name the field, the value and what it must be."""

from __future__ import annotations


def require(condition: bool, name: str, value: object, what: str) -> None:
    """Raise ValueError unless the condition holds."""
    if not condition:
        raise ValueError(f"{name} is {value!r}; it must be {what}")


def require_choice(section: object, prefix: str, **choices: tuple[str, ...]) -> None:
    """Raise ValueError when a field of the section has none of its allowed values."""
    for name, allowed in choices.items():
        value = getattr(section, name)
        require(value in allowed, f"{prefix}.{name}".lstrip("."), value, f"one of {', '.join(allowed)}")
