"""Validation of configuration values, with messages that state the field, its value and the requirement."""

from __future__ import annotations


def require(condition: bool, name: str, value: object, what: str) -> None:
    """Raise an error unless a condition holds.

    Args:
        condition: the condition.
        name: dotted name of the field.
        value: its value.
        what: the requirement, after "it must be".

    Raises:
        ValueError: the condition is false.
    """
    if not condition:
        raise ValueError(f"{name} is {value!r}; it must be {what}")


def require_choice(section: object, prefix: str, **choices: tuple[str, ...]) -> None:
    """Raise an error unless fields have one of their allowed values.

    Args:
        section: the section of the configuration.
        prefix: its dotted name, empty for the top level.
        choices: allowed values by field.

    Raises:
        ValueError: a field has another value.
    """
    for name, allowed in choices.items():
        value = getattr(section, name)
        require(value in allowed, f"{prefix}.{name}".lstrip("."), value, f"one of {', '.join(allowed)}")
