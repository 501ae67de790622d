"""A case: one image of a question, with the policies that speak about it and what is known about it so far."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from webhook.image import Digest, ImageReference, Repository, Subject, parse_reference
from webhook.judge.workload import Placed, Question
from webhook.memory.store import Snapshot
from webhook.parsing import Invalid
from webhook.policy import require
from webhook.policy.policy import ContainerKind, Policy
from webhook.trust import Access, Platform, Rejected, Resolved, Signer, Unavailable, Unresolved
from webhook.verdict import Deferred, Denied, Finding, Judgement, Ruling


@dataclass(slots=True)
class Case:
    """One image in one kind of container: what is known about it so far. Lives as long as its review."""

    places: tuple[str, ...]
    image: ImageReference
    covering: tuple[Policy, ...]
    denying: tuple[Policy, ...]
    uncertain: tuple[Policy, ...]
    now: datetime
    access: Access | Unavailable | None = None
    resolved: Resolved | Rejected | Unavailable | None = None
    findings: dict[tuple[Digest, Signer], Finding] = field(default_factory=dict)
    every_proof: bool = False
    """Whether all evidence counts, because identities are counted, some key is denied or all is to be read; else the first proof ends it."""
    thorough: bool = False
    """Whether everybody's evidence is read, also where somebody's settles it."""
    seconds: float = math.inf
    """For how long all of this is remembered."""
    opened: dict[Repository, Access] = field(default_factory=dict)
    """The logins that opened what is remembered."""

    @property
    def subject(self) -> Subject | None:
        """What would run: the digest that was written, else the one that the tag means."""
        image = self.image
        digest = image.digest or (self.resolved.digest if isinstance(self.resolved, Resolved) else None)
        return None if digest is None else Subject(image.repository, digest, image.tag, image.digest is not None)

    def judged(self, policy: Policy) -> tuple[Platform, ...] | Denied | None:
        """What `policy` judges: the image itself, or the images of an index. None: that is not known yet."""
        if self.subject is None:
            return None
        itself = (Platform("", self.subject.digest),)
        if policy.terms.platforms == "index":
            return itself
        if not isinstance(self.resolved, Resolved):
            return None
        if self.resolved.platforms is None:
            return itself
        if self.resolved.is_nested:
            return Denied(("an index of indexes, whose images cannot be judged one by one",), subject=self.subject)
        if not self.resolved.platforms:
            return Denied(("an index without an image of any platform",), subject=self.subject)
        return tuple(dict.fromkeys(self.resolved.platforms))

    def demands(self, subject: Subject) -> Iterator[tuple[Subject, Signer]]:
        """What all policies that cover the image ask of whom, as far as keys are known; equal ones more than once."""
        for policy in self.covering:
            judged = self.judged(policy)
            for platform in judged if isinstance(judged, tuple) else ():
                for demand in policy.wanted:
                    if not isinstance(demand.signer, Unresolved):
                        yield replace(subject, digest=platform.digest), demand.signer

    @property
    def wants_children(self) -> bool:
        """Whether the image has to be seen before it is known what is judged."""
        return self.subject is None or any(policy.terms.platforms != "index" for policy in self.covering)


def cases_of(question: Question, snapshot: Snapshot, now: datetime) -> tuple[list[Judgement], list[Case]]:
    """What needs no evidence, and the images that do: each distinct one once in each kind of container."""
    settled: list[Judgement] = []
    places: dict[tuple[str, ContainerKind], list[Placed]] = {}
    for placed in question.images:
        places.setdefault((placed.image, placed.kind), []).append(placed)
    cases = []
    labels = snapshot.namespace_labels(question.who.namespace)
    for (written, kind), where in places.items():
        named = tuple(placed.where for placed in where)
        if not written:
            settled.append(_empty(named, template=question.template))
            continue
        try:
            image = parse_reference(written)
        except Invalid as e:
            settled.append(Ruling(named, written, None, Denied((str(e),))))
            continue
        match = snapshot.index.match(image, question.who, kind, labels)
        every_proof = any(policy.terms.deny.names_signers for policy in match.denying) or any(
            policy.require is not None and require.needs_all_proofs(policy.require) for policy in match.covering
        )
        cases.append(
            Case(
                named,
                image,
                match.covering,
                match.denying,
                match.uncertain,
                now,
                every_proof=every_proof or question.thorough,
                thorough=question.thorough,
            )
        )
    return settled, cases


def _empty(places: tuple[str, ...], *, template: bool) -> Judgement:
    return Deferred(places) if template else Ruling(places, "", None, Denied(("no image is named",)))
