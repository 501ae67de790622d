"""Prometheus series, all of them.

Labels are words of ours from closed lists. An image, Pod or namespace is never a label: whoever can create Pods could
otherwise fill the monitoring's memory (attack D-09).
"""

from datetime import datetime
from typing import Final, Literal, assert_never

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from webhook import __version__
from webhook.observe.lists import RevocationLists
from webhook.observe.running import RunningMetrics
from webhook.verdict import Finding, Mode, Satisfied, Unknown, Unsatisfied

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OPERATIONS: Final = ("CREATE", "UPDATE", "DELETE", "CONNECT")

_OUTAGE_ACTIONS: Final = ("warn", "last-known-good")

Decision = Literal["allowed", "denied", "undecided", "error"]
_ENDINGS: Final[tuple[tuple[Decision, Mode], ...]] = (
    ("allowed", "enforce"), ("allowed", "warn"), ("allowed", "audit"),
    ("denied", "enforce"), ("undecided", "enforce"), ("error", "enforce"),
)  # fmt: skip
CONFIGURATIONS: Final = {"ValidatingWebhookConfiguration": "validating", "MutatingWebhookConfiguration": "mutating"}
"""The webhook configurations by kind, as a label calls them."""
ConfigurationFault = Literal["missing", "weakened", "stale_authority"]
_CONFIGURATION_FAULTS: Final[tuple[ConfigurationFault, ...]] = ("missing", "weakened", "stale_authority")
Loop = Literal["webhook", "kopf"]
LOOPS: Final[tuple[Loop, ...]] = ("webhook", "kopf")
"""The event loops of a process: the one that answers, and the one that follows the cluster."""
EventResult = Literal["written", "failed", "suppressed"]
_EVENT_RESULTS: Final[tuple[EventResult, ...]] = ("written", "failed", "suppressed")


class Metrics:
    """One process's series. Implements `judge.evaluate.Observer`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        requests = Counter(
            "trusted_images_admission_requests",
            "Reviews answered, by operation, decision (allowed, denied, undecided, error), and the mode of policies that were not enforced",
            ("operation", "decision", "mode"),
            registry=self.registry,
        )
        # Made at once: a look-up by label costs as much as the increment itself, and series that are 0 can be alerted on.
        self._requests = {
            (operation, decision, mode): requests.labels(operation, decision, mode)
            for operation in _OPERATIONS
            for decision, mode in _ENDINGS
        }
        self._duration = Histogram(
            "trusted_images_admission_duration_seconds",
            "Seconds from a review's last byte to its answer",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._verifications = Counter(
            "trusted_images_verifications",
            "Signers judged from evidence that had to be read, by format, result (satisfied, unsatisfied, unknown) and reason",
            ("verifier", "result", "reason"),
            registry=self.registry,
        )
        hits = Counter("trusted_images_cache_hits", "Findings that were remembered", registry=self.registry)
        misses = Counter("trusted_images_cache_misses", "Findings that were not remembered", registry=self.registry)
        self._cache = {True: hits, False: misses}
        self._fetches = Counter(
            "trusted_images_registry_requests",
            "Requests to registries, by HTTP status (0: no answer)",
            ("code",),
            registry=self.registry,
        )
        self._pinned = Counter(
            "trusted_images_pinned_images",
            "Images whose verified digest was written into a Pod",
            registry=self.registry,
        )
        self._excused = Counter(
            "trusted_images_exceptions_used",
            "Pods that an exception let in; one counts once for each exception",
            registry=self.registry,
        )
        self._borne = Counter(
            "trusted_images_outage_admissions",
            "Pods that could not be verified and were let in by onOutage, by action (warn, last-known-good)",
            ("action",),
            registry=self.registry,
        )
        for action in _OUTAGE_ACTIONS:
            self._borne.labels(action)
        self.records = Gauge(
            "trusted_images_outage_records", "Records of what was verified, for outages", registry=self.registry
        )
        self.exceptions = Gauge(
            "trusted_images_exceptions", "Exceptions there are, by what they do now", ("state",), registry=self.registry
        )
        self.waiting = Gauge("trusted_images_reviews_in_progress", "Reviews under way", registry=self.registry)
        self.policies = Gauge("trusted_images_policies", "Policies in force", ("state",), registry=self.registry)
        self.held_keys = Gauge(
            "trusted_images_held_keys",
            "Keys outside the cluster that are in force as they were last read, since their source cannot be asked",
            registry=self.registry,
        )
        self.certificate_expiry = Gauge(
            "trusted_images_certificate_expiry_timestamp_seconds",
            "When the serving certificate ends",
            registry=self.registry,
        )
        self._root_freshness = Gauge(
            "trusted_images_public_root_fresh_until_timestamp_seconds",
            "Until when TUF vouches for sigstore's public trust root; 0 while no refresh has succeeded",
            registry=self.registry,
        )
        self._root_refreshes = Counter(
            "trusted_images_public_root_refreshes", "Refreshes of it that were tried", registry=self.registry
        )
        self.running = RunningMetrics(self.registry)
        self.lists = RevocationLists()
        self._told = Counter(
            "trusted_images_refusal_events",
            "Refusals that an Event was due for, by what became of it (written, failed, suppressed by the rate limit)",
            ("result",),
            registry=self.registry,
        )
        for event_result in _EVENT_RESULTS:
            self._told.labels(event_result)
        self.listed = Gauge(
            "trusted_images_last_list_timestamp_seconds",
            "When all policies were last listed and compared; 0 where they are read from files",
            registry=self.registry,
        )
        self.lines_dropped = Gauge(
            "trusted_images_log_lines_dropped",
            "Lines about reviews that could not be written since the start",
            registry=self.registry,
        )
        self.expiry = Gauge(
            "trusted_images_expiry_timestamp_seconds",
            "When the first of a kind will end that a policy in force or a running image rests on, or an exception; +Inf where nothing of it will",
            ("kind",),
            registry=self.registry,
        )
        self.ended = Gauge(
            "trusted_images_ended",
            "What has ended of a kind and still stands in a policy in force",
            ("kind",),
            registry=self.registry,
        )
        self.policies_over = Gauge(
            "trusted_images_policies_over",
            "Policies whose demand nothing new can satisfy any more, because of what has ended",
            registry=self.registry,
        )
        self.in_place = Gauge(
            "trusted_images_configuration_in_place",
            "1 if the webhook configuration is as it was installed; told by the leader alone",
            ("configuration",),
            registry=self.registry,
        )
        self.repairs = Counter(
            "trusted_images_configuration_repairs",
            "Times that a webhook configuration was changed by somebody else and put back, by what was wrong",
            ("fault",),
            registry=self.registry,
        )
        for fault in _CONFIGURATION_FAULTS:
            self.repairs.labels(fault)
        self.leader = Gauge(
            "trusted_images_leader", "1 where this replica writes status and certificates", registry=self.registry
        )
        self._stalls = Counter(
            "trusted_images_event_loop_stalls",
            "Times that an event loop stood still for seconds (webhook, kopf); the log says in what",
            ("loop",),
            registry=self.registry,
        )
        self.loop_lag = Gauge(
            "trusted_images_event_loop_lag_seconds",
            "By how much an event loop is late at this moment; 0 where there is none",
            ("loop",),
            registry=self.registry,
        )
        for loop in LOOPS:
            self._stalls.labels(loop)
            self.loop_lag.labels(loop)
        ProcessCollector(registry=self.registry)
        build = Gauge("trusted_images_build_info", "1", ("version",), registry=self.registry)
        build.labels(__version__).set(1)

    def answered(self, operation: str, decision: Decision, mode: Mode, seconds: float) -> None:
        """One review got its answer; `mode` as in `Answer`."""
        self._requests[operation, decision, mode].inc()
        self._duration.observe(seconds)

    def stalled(self, loop: Loop) -> None:
        """An event loop stands still."""
        self._stalls.labels(loop).inc()

    def pinned(self, count: int) -> None:
        """So many digests were written into a Pod."""
        self._pinned.inc(count)

    def excused(self) -> None:
        """An exception let a Pod in."""
        self._excused.inc()

    def borne(self, *, known_good: bool) -> None:
        """`onOutage` let a Pod in, by what was known of it before, or by nothing."""
        self._borne.labels(_OUTAGE_ACTIONS[known_good]).inc()

    def verified(self, signer: str, finding: Finding) -> None:
        """A signer was judged from evidence that had to be read."""
        match finding:
            case Satisfied():
                words = ("satisfied", "proven")
                self.lists.relied_on(one for proof in finding.proofs for one in proof.lists)
            case Unsatisfied():
                words = ("unsatisfied", "absent" if finding.absent else "rejected")
            case Unknown():
                words = ("unknown", "unavailable")
            case _:
                assert_never(finding)
        self._verifications.labels(signer, *words).inc()

    def told(self, result: EventResult) -> None:
        """What became of the Event about a refusal."""
        self._told.labels(result).inc()

    def recalled(self, *, hit: bool) -> None:
        """A signer's finding was remembered, or was not."""
        self._cache[hit].inc()

    def fetched(self, _host: str, status: int) -> None:
        """A registry answered with `status`, or not at all (0). The host is no label: Pods choose it."""
        self._fetches.labels(str(status) if 100 <= status < 600 else "0").inc()

    def root_refreshed(self, fresh_until: datetime | None) -> None:
        """A refresh of the public trust root was tried; until when it is vouched for now."""
        self._root_refreshes.inc()
        self._root_freshness.set(fresh_until.timestamp() if fresh_until else 0)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)
