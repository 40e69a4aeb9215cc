"""Announces events."""

from perdure.event import notify

__all__ = ["notify"]
