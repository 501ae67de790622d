"""YAML files instead of a cluster: policies, exceptions, and the Secrets, ConfigMaps and Namespaces that they refer to."""

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from webhook import keys, limits
from webhook.kube.entries import Entries
from webhook.parsing import Invalid, convert_all, quote
from webhook.policy import exceptionparse, parse
from webhook.policy.document import KINDS, Document, parse_document
from webhook.policy.exception import TrustException
from webhook.policy.keyref import Key, ObjectKey, ObjectKind, RemoteKey
from webhook.policy.policy import Labels, Policy
from webhook.trust import NOT_IN_FILES, Format, Unresolved
from webhook.verdict import ExceptionKey, PolicyKey
from webhook.yamltext import read_yaml

_log = logging.getLogger(__name__)


class _Metadata(msgspec.Struct):
    name: str
    namespace: str = "default"
    labels: dict[str, str] | None = None


class _Object(Entries, rename="camel", kw_only=True):
    """A Secret, ConfigMap or Namespace."""

    metadata: _Metadata


ReadRemote = Callable[[RemoteKey], bytes | Unresolved]
"""Says what is known of a key outside the files, and waits for nothing."""


def ask_nobody(key: RemoteKey) -> Unresolved:
    """For those who read nothing but files."""
    return Unresolved(f"{key}: is not asked for here")


@dataclass(slots=True)
class Loaded:
    """What the files hold. `documents` are policies with the place each stands at; `uses`: how often exceptions have been used."""

    files: tuple[Path, ...] = ()
    documents: list[tuple[str, Document]] = field(default_factory=list)
    objects: dict[tuple[ObjectKind, str, str], Mapping[str, bytes]] = field(default_factory=dict)
    namespaces: dict[str, Labels] = field(default_factory=dict)
    exceptions: dict[ExceptionKey, TrustException] = field(default_factory=dict)
    uses: dict[ExceptionKey, int] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def read(self, key: ObjectKey) -> bytes | Unresolved:
        """One entry of a Secret or ConfigMap."""
        entries = self.objects.get((key.kind, key.namespace, key.name))
        if entries is None:
            return Unresolved(f"{key.kind} {key.namespace}/{key.name} {NOT_IN_FILES}")
        if key.entry not in entries:
            return Unresolved(f"{key.kind} {key.namespace}/{key.name} has no entry {key.entry}")
        return entries[key.entry]

    def remote_keys(self, formats: Mapping[str, Format[Any]], home: str) -> frozenset[RemoteKey]:
        """The keys outside the files that the policies refer to."""
        return frozenset(
            key
            for _, document in self.documents
            for key in keys.remote_keys(parse.key_references(document.spec, formats), document.key, home)
        )

    def policies(
        self, formats: Mapping[str, Format[Any]], home: str, read_remote: ReadRemote = ask_nobody
    ) -> tuple[Policy, ...]:
        """The policies in the files. Raises `Invalid` with every complaint about every file."""
        complaints = list(self.complaints)
        policies: dict[PolicyKey, Policy] = {}

        def read(key: Key) -> bytes | Unresolved:
            return self.read(key) if isinstance(key, ObjectKey) else read_remote(key)

        for where, document in self.documents:
            kind = "TrustPolicy" if document.key.namespace else "ClusterTrustPolicy"
            title = f"{where} {kind} {document.key}"
            if document.key in policies:
                complaints.append(f"{title}: stands twice in these files")
            try:
                references = parse.key_references(document.spec, formats)
                materials = keys.resolve(references, document.key, home, read)
                policies[document.key] = parse.parse_policy(document.key, document.spec, materials, formats, home)
            except Invalid as e:
                complaints += [f"{title}: {complaint}" for complaint in e.complaints]
            except Exception as e:  # noqa: BLE001 - whatever one policy or key does to us, the others stay in force
                number = secrets.token_hex(4)
                complaints.append(f"{title}: spec: an internal error, id {number} in the log")
                _log.exception("%s: unforeseen error %s: %s", title, number, type(e).__name__)
        if complaints:
            raise Invalid(*complaints)
        return tuple(policies.values())


def load_files(files: Sequence[Path]) -> Loaded:
    """Everything in the files. Complaints are collected; OSError if a file cannot be read."""
    loaded = Loaded(tuple(files))
    for file in files:
        with file.open("rb") as opened:
            data = opened.read(limits.MAX_YAML + 1)
        if len(data) > limits.MAX_YAML:
            loaded.complaints.append(f"{file}: more than {limits.MAX_YAML} bytes")
            continue
        try:
            documents = read_yaml(data, str(file))
        except Invalid as e:
            loaded.complaints += e.complaints
            continue
        for i, document in enumerate(documents):
            for one in _unrolled(document):
                _take(one, f"{file}[{i}]", loaded)
    return loaded


def _unrolled(document: object) -> Iterator[object]:
    """A document, or what a `List` holds; nothing for an empty one."""
    items = document.get("items") if isinstance(document, dict) and document.get("kind") == "List" else None
    if isinstance(items, list):
        for item in items:
            yield from _unrolled(item)
    elif document is not None:
        yield document


def _take(document: object, where: str, loaded: Loaded) -> None:
    kind = document.get("kind") if isinstance(document, dict) else None
    try:
        if kind in KINDS:
            loaded.documents.append((where, parse_document(document)))
        elif kind == exceptionparse.KIND:
            _take_exception(document, loaded)
        elif kind in {"Secret", "ConfigMap", "Namespace"}:
            _take_object(kind, convert_all(document, _Object, ""), loaded)
        else:
            raise Invalid(f"kind: {quote(kind, 80)} is none of {', '.join(_KNOWN)}")  # noqa: TRY301 - one way to complain
    except Invalid as e:
        loaded.complaints += [f"{where}: {complaint.lstrip('.')}" for complaint in e.complaints]


_KNOWN: Final = (*KINDS, exceptionparse.KIND, "Secret", "ConfigMap", "Namespace", "List")


def _take_exception(document: object, loaded: Loaded) -> None:
    found = exceptionparse.parse_exception_document(document)
    title = f"{exceptionparse.KIND} {found.key}"
    if found.key in loaded.exceptions:
        raise Invalid(f"{title}: stands twice in these files")
    try:
        loaded.exceptions[found.key] = exceptionparse.parse_exception(found.key, found.spec)
    except Invalid as e:
        raise Invalid(*(f"{title}: {complaint}" for complaint in e.complaints)) from e
    loaded.uses[found.key] = found.uses


def _take_object(kind: Any, found: _Object, loaded: Loaded) -> None:
    if kind == "Namespace":
        loaded.namespaces[found.metadata.name] = found.metadata.labels or {}
        return
    loaded.objects[kind, found.metadata.namespace, found.metadata.name] = found.decoded(kind)
