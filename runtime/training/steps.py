"""Who wants to hear of each piece of a round's computing: it may wait there, as an emulated tier does, or raise to stop."""

from __future__ import annotations

from collections.abc import Callable

AfterStep = Callable[[int, str], None]
"""Called with the round and the kind of what has just been computed; pieces of one kind take about as long as each other."""
STEP = "step"
"""A local step."""
GRADIENT = "gradient"
"""A gradient that no step is made of: what adaptive tau measures costs one in a round."""
