"""Configurations as flat tables."""

from __future__ import annotations

from typing import Any

from eventide.config import Config


def flat(config: Config) -> dict[str, Any]:
    """Every value by its dotted key."""
    found: dict[str, Any] = {}

    def go(values: dict[str, Any], prefix: str) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                go(value, f"{prefix}{key}.")
            else:
                found[prefix + key] = value

    go(config.model_dump(mode="json"), "")
    return found
