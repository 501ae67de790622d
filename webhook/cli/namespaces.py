"""Which namespace is asked about where nobody says: a policy speaks for some, and what is judged as elsewhere nobody judges.

That no policy covers an image admits it. Of a question that none of the policies given could answer that must not be the answer.
"""

from collections.abc import Sequence
from typing import Final

from webhook import limits
from webhook.cli.local import misused
from webhook.policy.policy import Policy

DEFAULT: Final = "default"
"""Where kubectl itself is when nothing is said."""


def assumed(policies: Sequence[Policy], given: str | None) -> str:
    """The namespace given; else the one that the policies are for, if they are for one alone; else `default`."""
    own = _own(policies)
    return given if given is not None else own[0] if len(own) == 1 else DEFAULT


def insist(policies: Sequence[Policy], given: str | None) -> None:
    """Exits with 2 if policies are for several namespaces and none was given, or if none could speak for the one that is asked about."""
    own = _own(policies)
    if given is None and len(own) > 1:
        misused(f"the policies are for the namespaces {', '.join(own[: limits.MAX_DENIAL_LINES])}; give one with -n")
    namespace = assumed(policies, given)
    if any(_could_speak(policy, namespace) for policy in policies):
        return
    misused(*(_elsewhere(policy, namespace) for policy in policies[: limits.MAX_DENIAL_LINES]))


def _own(policies: Sequence[Policy]) -> list[str]:
    return sorted({policy.key.namespace for policy in policies if policy.key.namespace is not None})


def _could_speak(policy: Policy, namespace: str) -> bool:
    """Whether it would, by its name or by the globs of a cluster policy; labels may not be known, and judging says so."""
    if policy.key.namespace is not None:
        return policy.key.namespace == namespace
    return policy.scope.namespaces is None or policy.scope.namespaces.includes(namespace)


def _elsewhere(policy: Policy, namespace: str) -> str:
    own = policy.key.namespace
    if own is not None:
        return f"policy {policy.key} is for namespace {own}; give -n {own}"
    return f"policy {policy.key} is not for namespace {namespace}; give one of its own with -n"
