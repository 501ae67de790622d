"""Notation's `trustpolicy.json` → ClusterTrustPolicies that decide the same.

A statement for named repositories becomes a policy for them, the one for `*` a `fallback`; without such a one a fallback denies,
because notation fails where no statement applies. Trust stores become ConfigMaps.
Source: Notary Project, trust-store-trust-policy.md, "Trust Policy", "Selecting a trust policy based on artifact URI".
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from webhook import limits
from webhook.formats.notation.spec import Override, StoreType, TimestampRule
from webhook.image import names_host, parse_repository
from webhook.parsing import Invalid, convert_all, quote, read_json
from webhook.policy.document import API_VERSION

_EVERYTHING: Final = "*"
_SIGNER: Final = "notation"
_STORE: Final = re.compile(r"(?P<type>[A-Za-z]{1,32}):(?P<name>[a-zA-Z0-9_.-]{1,128})")
_ENTRY: Final = "certs.pem"


class _Verification(Struct, forbid_unknown_fields=True, rename="camel"):
    level: Literal["strict", "permissive", "audit", "skip"]
    override: Override | None = None
    verify_timestamp: TimestampRule | None = None


class _Statement(Struct, forbid_unknown_fields=True, rename="camel"):
    name: Annotated[str, Meta(min_length=1, max_length=limits.MAX_TEXT)]
    registry_scopes: Annotated[list[str], Meta(min_length=1, max_length=limits.MAX_GLOBS)]
    signature_verification: _Verification
    trust_stores: list[str] = []
    trusted_identities: list[str] = []


class _Document(Struct, forbid_unknown_fields=True, rename="camel"):
    version: Literal["1.0"]
    trust_policies: Annotated[list[_Statement], Meta(min_length=1, max_length=limits.MAX_DENIED)]


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """A trust policy document, checked by its own rules. `stores`: which trust stores it names, by type and name."""

    statements: tuple[_Statement, ...]
    stores: tuple[tuple[StoreType, str], ...]


@dataclass(frozen=True, slots=True)
class Imported:
    """Resources, as `kubectl apply` takes them, and what somebody who relies on them should know."""

    resources: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]


def read_trust_policy(data: bytes, what: str) -> TrustPolicy:
    """The document in `data`. Raises `Invalid` with every complaint, each beginning with `what`."""
    if len(data) > limits.MAX_YAML:
        raise Invalid(f"{what}: more than {limits.MAX_YAML} bytes")
    document = convert_all(read_json(data, what), _Document, what)
    complaints: list[str] = []
    scopes: dict[str, str] = {}
    stores: dict[tuple[StoreType, str], None] = {}
    names: set[str] = set()
    for i, statement in enumerate(document.trust_policies):
        path = f"{what}.trustPolicies[{i}]"
        if statement.name in names:
            complaints.append(f"{path}.name: {quote(statement.name, 80)} stands twice")
        names.add(statement.name)
        complaints += _wrong_scopes(statement, path, scopes)
        complaints += _wrong_level(statement, path)
        for k, text in enumerate(statement.trust_stores):
            try:
                stores[_parse_store(text)] = None
            except Invalid as e:
                complaints.append(f"{path}.trustStores[{k}]: {e}")
    if complaints:
        raise Invalid(*complaints)
    return TrustPolicy(tuple(document.trust_policies), tuple(stores))


def _wrong_scopes(statement: _Statement, path: str, known: dict[str, str]) -> list[str]:
    """What is wrong with a statement's scopes; fills in those that are `known` by now."""
    complaints = []
    for i, scope in enumerate(statement.registry_scopes):
        where = f"{path}.registryScopes[{i}]"
        if scope == _EVERYTHING:
            repository = scope
            if len(statement.registry_scopes) > 1:
                complaints.append(f"{where}: * stands alone")
        else:
            try:
                repository = _parse_scope(scope)
            except Invalid as e:
                complaints.append(f"{where}: {e}")
                continue
        if repository in known:
            complaints.append(f"{where}: {quote(scope, 80)} is statement {quote(known[repository], 80)}'s already")
        known[repository] = statement.name
    return complaints


def _parse_scope(scope: str) -> str:
    head, slash, _ = scope.partition("/")
    # Notation expands nothing: what our names would take for a short one of Docker Hub means another host there.
    if not slash or not names_host(head):
        raise Invalid(f"{quote(scope, 80)}: not a repository with its registry")
    return str(parse_repository(scope))


def _wrong_level(statement: _Statement, path: str) -> list[str]:
    verification = statement.signature_verification
    if verification.level != "skip":
        missing = [name for name in ("trustStores", "trustedIdentities") if not getattr(statement, _FIELDS[name])]
        return [f"{path}.{name}: required, unless the level is skip" for name in missing]
    complaints = []
    if statement.registry_scopes == [_EVERYTHING]:
        complaints.append(f"{path}.registryScopes: level skip cannot be for *")
    if statement.trust_stores or statement.trusted_identities or verification.override is not None:
        complaints.append(f"{path}: level skip has no trustStores, trustedIdentities or override")
    return complaints


_FIELDS: Final = {"trustStores": "trust_stores", "trustedIdentities": "trusted_identities"}


def _parse_store(text: str) -> tuple[StoreType, str]:
    match = _STORE.fullmatch(text)
    types = get_args(StoreType)
    # A name of dots alone would be another folder.
    if match is None or match["type"] not in types or not match["name"].strip("."):
        raise Invalid(f"{quote(text, 80)}: write TYPE:NAME with a type of {', '.join(types)}")
    kind: StoreType = match["type"]  # type: ignore[assignment]  # one of them, as was just seen
    return kind, match["name"]


def translate(policy: TrustPolicy, stores: Mapping[tuple[StoreType, str], str], namespace: str) -> Imported:
    """The resources that decide as `policy` does.

    `stores`: the certificates of each store that it names, as PEM. `namespace`: where the webhook runs, whose ConfigMaps cluster
    policies may name.
    """
    resources: list[Mapping[str, Any]] = [
        _resource("v1", "ConfigMap", _config_map(store), namespace, data={_ENTRY: pem}) for store, pem in stores.items()
    ]
    notes: list[str] = []
    for i, statement in enumerate(policy.statements):
        spec: dict[str, Any] = {
            "images": ["**" if scope == _EVERYTHING else _parse_scope(scope) for scope in statement.registry_scopes]
        }
        if statement.registry_scopes == [_EVERYTHING]:
            spec["fallback"] = True
        spec["signers"] = [{"name": _SIGNER, **_signer(statement, notes)}]
        resources.append(_resource(API_VERSION, "ClusterTrustPolicy", _name(statement.name, i), spec=spec))
    if not any(statement.registry_scopes == [_EVERYTHING] for statement in policy.statements):
        reason = "no statement of the trust policy is for this image"
        nobody = {"name": _SIGNER, "static": {"allow": False, "reason": reason}}
        spec = {"images": ["**"], "fallback": True, "signers": [nobody]}
        resources.append(_resource(API_VERSION, "ClusterTrustPolicy", "no-statement", spec=spec))
    return Imported(tuple(resources), tuple(notes))


def _signer(statement: _Statement, notes: list[str]) -> dict[str, Any]:
    verification = statement.signature_verification
    name = quote(statement.name, 80)
    if verification.level == "skip":
        notes.append(f"statement {name}: level skip: its images are allowed without a signature")
        return {"static": {"allow": True, "reason": f"trust policy statement {name}: level skip"}}
    stores = [_parse_store(text) for text in statement.trust_stores]
    spec: dict[str, Any] = {
        "trustStores": [
            {"type": store[0], "certs": f"configmap://{_config_map(store)}#{_ENTRY}"} for store in dict.fromkeys(stores)
        ],
        "trustedIdentities": statement.trusted_identities,
        "level": verification.level,
    }
    if verification.override is not None:
        written = msgspec.to_builtins(verification.override)
        spec["override"] = {validation: action for validation, action in written.items() if action is not None}
    if verification.verify_timestamp is not None and any(kind == "tsa" for kind, _ in stores):
        spec["timestamp"] = verification.verify_timestamp
    elif verification.verify_timestamp is not None:
        notes.append(f"statement {name}: verifyTimestamp does nothing without a trust store of type tsa")
    return {"notation": spec}


def _config_map(store: tuple[StoreType, str]) -> str:
    """A name of Kubernetes for a trust store, whose own may differ from another's in letter case only."""
    kind, name = store
    return f"trust-store-{kind.lower()}-{_plain(name)}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _name(statement: str, position: int) -> str:
    """A name of Kubernetes for a statement; its place tells apart what would be the same."""
    return f"{_plain(statement)}-{position}"


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:60].strip("-") or "unnamed"


def _resource(version: str, kind: str, name: str, namespace: str | None = None, **fields: Any) -> Mapping[str, Any]:
    metadata = {"name": name} | ({} if namespace is None else {"namespace": namespace})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}
