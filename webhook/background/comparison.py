"""A Pod, compared with what was good in it: whether something else runs by now, and what follows from that."""

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

from webhook.background.contents import Read, is_another
from webhook.background.drift import Drift, has_drifted
from webhook.background.examine import Examined, reference_of
from webhook.background.lines import Line
from webhook.background.pods import Pod, Sight
from webhook.image import Digest, ImageReference
from webhook.judge.workload import Placed
from webhook.policy.afterwards import OnDrift
from webhook.verdict import PolicyKey


@dataclass(frozen=True, slots=True)
class Admitting:
    """A policy in force, as one that lets Pods in: from `since` on it has, as it is, and nothing else beside it; that is known up to `until`.

    Both in seconds since the epoch. `follows`: what follows drift. `by_age`: what is younger was admitted by it because it was verified, and not
    because it could not be (`onOutage: warn`).
    """

    since: float
    until: float
    by_age: bool
    follows: OnDrift


@dataclass(slots=True)
class Comparison:
    """Pods of one kind, each compared. `admitting`: a policy, as far as it let them in; None: it is not in force."""

    asked: Read
    sight: Sight
    found: Examined
    admitting: Callable[[PolicyKey], Admitting | None]
    is_early: bool = False
    """Whether something would be called drift, as soon as it is known that nothing else has let it in."""
    _others: dict[tuple[str, Digest | None], bool | None] = field(default_factory=dict)
    """By place and by what was good there, whether it is another image: asked once for the kind."""

    @property
    def unread(self) -> frozenset[str]:
        """The places of which nothing can be said, because something of it cannot be read."""
        return frozenset(where for (where, _), other in self._others.items() if other is None)

    async def drifts(self, pod: Pod) -> AsyncIterator[tuple[str, Drift | None]]:
        """Whether a Pod has drifted: by place, each as soon as it is known."""
        for placed, digest, good in self._places(pod):
            if digest is None:
                continue
            stranger = self.found.strangers.get(placed.where)
            written = reference_of(placed.image)
            # What runs as it was written was not exchanged, whatever is said of it by now.
            kept = stranger is None and written is not None and written.digest is not None
            drift = None if kept else self._drift(pod, placed, digest, good, stranger)
            if drift is not None and written is not None:
                key = (placed.where, good)
                if key not in self._others:
                    self._others[key] = await self._is_another(placed, written, digest, good)
                drift = drift if self._others[key] else None
            yield placed.where, drift

    def good(self, pod: Pod) -> tuple[Digest | None, ...]:
        """By image, what is good in a Pod now, or was before: its `good` from now on."""
        good = tuple(
            before if digest is None or not self._is_good(placed) else digest
            for placed, digest, before in self._places(pod)
        )
        # One and the same tuple for all Pods of the kind, where they agree.
        return self.sight.running if good == self.sight.running else good

    def _places(self, pod: Pod) -> Iterable[tuple[Placed, Digest | None, Digest | None]]:
        """Each, with what runs there and what was good."""
        good = pod.good or (None,) * len(self.sight.running)
        return zip(self.sight.question.images, self.sight.running, good, strict=True)

    def _is_good(self, placed: Placed) -> bool:
        return placed.where not in self.found.strangers and not any(line.is_refused for line in self._runs(placed))

    def _runs(self, placed: Placed) -> list[Line]:
        return [line for line in self.found.result.runs if line.where == placed.where]

    async def _is_another(
        self, placed: Placed, written: ImageReference, digest: Digest, good: Digest | None
    ) -> bool | None:
        """Whether what runs is another image than what was verified, and not the same under another digest; None: nothing can be said."""
        verified = [written.at(one) for one in (written.digest, good) if one is not None]
        if written.digest is None:
            lines = [line for line in self.found.result.written if line.where == placed.where]
            if any(line.ending == "undecided" for line in lines):
                return None
            if not any(line.is_refused for line in lines):
                # Where the tag leads now would be admitted; where it leads to what would not, it says nothing of what was.
                verified.append(written)
        return await is_another(self.asked, self.sight.question, written.at(digest), verified)

    def _drift(
        self, pod: Pod, placed: Placed, digest: Digest, good: Digest | None, stranger: str | None
    ) -> Drift | None:
        found: Drift | None = None
        for line in self._runs(placed):
            policy = None if line.policy is None else self.admitting(line.policy)
            if policy is None or line.policy is None or line.mode != "enforce":
                continue
            if stranger is None:
                if line.ending != "denied" or not has_drifted(
                    digest, good, created=pod.created, seen=pod.seen, since=policy.since
                ):
                    continue
                if good is None and not policy.by_age:
                    continue
                if (pod.created if good is None else pod.seen) > policy.until:
                    self.is_early = True
                    continue
            text = (
                f"it runs {digest}, and {stranger}"
                if stranger
                else f"it runs {digest}, which was not verified: {line.text}"
            )
            if found is None or policy.follows == "evict":
                found = Drift(
                    pod.uid,
                    pod.namespace,
                    pod.name,
                    placed.where,
                    placed.image,
                    digest,
                    line.policy,
                    policy.follows,
                    text,
                    pod.owner,
                )
        return found
