"""What waits to be judged: namespaces take turns, so that one with much to judge, or with a slow registry, keeps nobody else waiting. Pure."""

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from webhook import limits


class Waiting:
    """Kinds of Pods by namespace, in the order in which they came; each once."""

    def __init__(self) -> None:
        self._lanes: dict[str, dict[bytes, None]] = {}

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return ((namespace, sight) for namespace, lane in self._lanes.items() for sight in lane)

    @property
    def namespaces(self) -> AbstractSet[str]:
        """Those of which something waits."""
        return self._lanes.keys()

    def add(self, namespace: str, sight: bytes) -> None:
        """At the end, unless it waits already."""
        self._lanes.setdefault(namespace, {}).setdefault(sight)

    def discard(self, namespace: str, sight: bytes) -> None:
        """It waits no longer."""
        lane = self._lanes.get(namespace)
        if lane is not None:
            lane.pop(sight, None)
            if not lane:
                del self._lanes[namespace]

    def take(self, busy: Mapping[str, AbstractSet[bytes]], has_room: Callable[[str], bool]) -> tuple[str, bytes] | None:
        """What is next, which is taken away; None while nothing may be.

        `busy`: what is being judged now, by namespace. `has_room`: whether something of a namespace may be begun.
        """
        for namespace, lane in self._lanes.items():
            now = busy.get(namespace, frozenset())
            if len(now) >= limits.RESCAN_AT_ONCE_IN_NAMESPACE or not has_room(namespace):
                continue
            # What is being judged is judged again afterwards, and not at the same time.
            sight = next((sight for sight in lane if sight not in now), None)
            if sight is not None:
                self.discard(namespace, sight)
                if namespace in self._lanes:
                    self._lanes[namespace] = self._lanes.pop(namespace)
                return namespace, sight
        return None
