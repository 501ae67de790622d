"""The series about what runs already. The leader counts; the other replicas' stay at 0."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

STATES: Final = ("allowed", "denied", "undecided", "excused", "uncovered")
Eviction = Literal["evicted", "refused", "failed"]


class RunningMetrics:
    """Series of one process, in its registry. `first_end`: when the first of what runs ends that is admitted now."""

    first_end: datetime | None

    def __init__(self, registry: CollectorRegistry) -> None:
        self._images = Gauge(
            "trusted_images_running_images",
            "Images of running containers, by what policies say of them now",
            ("state",),
            registry=registry,
        )
        self._drifted = Gauge(
            "trusted_images_drifted_images",
            "Images of running containers that are not what was verified",
            registry=registry,
        )
        self._drifts = Counter(
            "trusted_images_drifts", "Images found to run that are not what was verified", registry=registry
        )
        self._evictions = Counter(
            "trusted_images_evictions",
            "Evictions asked for because of that, by result (evicted, refused, failed)",
            ("result",),
            registry=registry,
        )
        self._rescanned = Gauge(
            "trusted_images_rescan_timestamp_seconds",
            "When all that runs was last begun to be judged, and was; 0 where this replica does not lead",
            registry=registry,
        )
        self._ending = Gauge(
            "trusted_images_ending_images",
            "Images of running containers that are admitted now, and refused within 14 days if their Pods are made again",
            registry=registry,
        )
        for result in ("evicted", "refused", "failed"):
            self._evictions.labels(result)
        self.clear()

    def running(self, images: Mapping[str, int], drifted: int, whole: float) -> None:
        """How many images get what, how many have drifted, and when everything had last been judged."""
        for state in STATES:
            self._images.labels(state).set(images.get(state, 0))
        self._drifted.set(drifted)
        self._rescanned.set(whole)

    def clear(self) -> None:
        """Another replica leads: its figures count."""
        self.running({}, 0, 0)
        self.ends(None, 0)

    def ends(self, first: datetime | None, soon: int) -> None:
        """When the first of what runs could not be started again, and how much of it ends soon."""
        self.first_end = first
        self._ending.set(soon)

    def drifted(self) -> None:
        """One image was found."""
        self._drifts.inc()

    def evicted(self, result: Eviction) -> None:
        """An eviction was asked for."""
        self._evictions.labels(result).inc()
