"""Configuration dataclasses, recipes, schedules and overrides."""
