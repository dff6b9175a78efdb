"""Intents as slots with values: the column `intent` of a prepared corpus."""

from typing import Any

LABEL = "intent"
PLAIN = "intent"  # slot of an intent that is one name


def as_slots(intent: Any) -> dict[str, str] | None:
    """Return the value of every slot of an intent, {} of a value that is none, None where there is no intent."""
    if intent is None:
        return None
    if isinstance(intent, str):
        return {PLAIN: intent}
    return {str(name): str(value) for name, value in intent.items()} if isinstance(intent, dict) else {}
