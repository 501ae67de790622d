"""Signers that another policy describes: what a reference stands for, given all policies of one moment.

A reference gives what it leads to and nothing else: a policy, a signer or a key that is not there leaves the signer undecided, with
the reason, and whatever its policy requires of it is not satisfied. Only signers of cluster policies can be referred to, so that no
namespace decides for another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from webhook import limits
from webhook.policy.policy import NamedSigner, Policy, SignerRef
from webhook.trust import Unresolved
from webhook.verdict import PolicyKey


def linked(policy: Policy, policies: Mapping[PolicyKey, Policy]) -> Policy:
    """The policy with the signers it refers to, as `policies` describe them. Equal policies give equal ones."""
    if not policy.refers:
        return policy
    signers = tuple(
        named if named.ref is None else _standing_for(named, _follow(named.ref, policies)) for named in policy.signers
    )
    return policy if signers == policy.signers else replace(policy, signers=signers)


def touched_by(key: PolicyKey, policies: Mapping[PolicyKey, Policy]) -> Iterator[PolicyKey]:
    """The policies that may be others once the policy `key` is another: itself, and those that refer to some signer."""
    yield key
    if key.namespace is None:
        yield from [other.key for other in policies.values() if other.refers and other.key != key]


def _standing_for(named: NamedSigner, found: NamedSigner | Unresolved) -> NamedSigner:
    if isinstance(found, Unresolved):
        return replace(named, signer=found, devices=())
    return replace(named, signer=found.signer, devices=found.devices, attests=found.attests, signs=found.signs)


def _follow(ref: SignerRef, policies: Mapping[PolicyKey, Policy]) -> NamedSigner | Unresolved:
    way = [ref]
    while True:
        policy = policies.get(PolicyKey(None, ref.policy))
        if policy is None:
            return Unresolved(f"there is no ClusterTrustPolicy {ref.policy}")
        if policy.faults:
            return Unresolved(f"ClusterTrustPolicy {ref.policy} is broken")
        named = next((one for one in policy.signers if one.name == ref.signer), None)
        if named is None:
            return Unresolved(f"ClusterTrustPolicy {ref.policy} has no signer {ref.signer}")
        if named.ref is None:
            return named
        ref = named.ref
        if ref in way:
            return Unresolved(f"it refers to itself: {' → '.join(map(str, [*way, ref]))}")
        way.append(ref)
        if len(way) > limits.MAX_REFERENCES:
            return Unresolved(f"it leads through more than {limits.MAX_REFERENCES} references")
