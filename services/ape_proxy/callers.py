"""Who sends a request: one of the agents at an address.

The name that a caller gives itself (X-APE-Agent) is not proven, its address is: an address has as
many names as it has agents, and further ones count as one of these.
"""

from __future__ import annotations

from collections import OrderedDict

# After this long without a request, another name may replace a name. By then, the limit per minute
# of the old one is full again.
IDLE_SECONDS = 60.0
MAX_NAMES = 2000


class Callers:
    """`per_address`: agents of a container; 0: any number."""

    def __init__(self, per_address: int = 0) -> None:
        self._most = per_address or MAX_NAMES
        # address -> name -> when it was last used, the oldest first.
        self._names: dict[str, OrderedDict[str, float]] = {}

    def owner(self, address: str, name: str, now: float) -> str:
        """A key of the caller, for its queue and its limits."""
        names = self._names.setdefault(address, OrderedDict())
        if name not in names:
            while names and now - next(iter(names.values())) >= IDLE_SECONDS:
                names.popitem(last=False)
            if len(names) >= self._most:
                name = next(iter(names))
        names[name] = now
        names.move_to_end(name)
        return f"{address} {name}"
