"""The spec: YAML text, its models, and the library of appliances."""

from __future__ import annotations

__all__: list[str] = []
