"""The custom resource definitions, generated from the structs that read the resources: they cannot come to differ.

Structural and closed, so that the API server itself refuses what has the wrong form; rules that span fields are CEL, written
beside the struct they are about (`RULES`). What only our own parser can see is refused by the webhook for policies.
Source: Kubernetes, "Custom Resource Definition Versions", "Structural schema", "Validation rules".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import inspect

from webhook.policy.document import GROUP, VERSION
from webhook.policy.exceptionspec import ExceptionSpec, ExceptionStatus
from webhook.policy.reading import Formats
from webhook.policy.spec import HardwareSpec, PolicySpec, RefSpec, Rule, ValiditySpec
from webhook.policy.statusspec import PolicyStatus

Schema = dict[str, Any]

_FREE: Final[Schema] = {"x-kubernetes-preserve-unknown-fields": True}
"""What a structural schema has no word for: a choice between a text and an object. The webhook for policies reads it."""


_POLICY_COLUMNS: Final[tuple[Schema, ...]] = (
    {"name": "Mode", "type": "string", "jsonPath": ".status.effectiveMode"},
    {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
    {"name": "Reason", "type": "string", "priority": 1, "jsonPath": '.status.conditions[?(@.type=="Ready")].reason'},
    {"name": "On duty", "type": "string", "jsonPath": '.status.conditions[?(@.type=="OnDuty")].status'},
    {"name": "Allowed", "type": "integer", "jsonPath": ".status.verdicts.allowed"},
    {"name": "Denied", "type": "integer", "jsonPath": ".status.verdicts.denied"},
    {"name": "Would deny", "type": "integer", "jsonPath": ".status.preview.denied"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
)


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind: its names, what is written and said in it, the columns people see, and the rules that are its own."""

    kind: str
    plural: str
    short: str
    namespaced: bool
    about: str
    rules: tuple[Rule, ...] = ()
    spec: type[msgspec.Struct] = PolicySpec
    status: type[msgspec.Struct] = PolicyStatus
    columns: tuple[Schema, ...] = _POLICY_COLUMNS


RESOURCES: Final = (
    Resource(
        "TrustPolicy",
        "trustpolicies",
        "tp",
        True,
        "What images in this namespace must prove before they may run.",
        (
            Rule("!has(self.namespaces)", "only a ClusterTrustPolicy has it", ".namespaces"),
            Rule("!has(self.fallback) || !self.fallback", "only a ClusterTrustPolicy has it", ".fallback"),
            Rule("!has(self.delegate) || size(self.delegate) == 0", "only a ClusterTrustPolicy has it", ".delegate"),
        ),
    ),
    Resource(
        "ClusterTrustPolicy",
        "clustertrustpolicies",
        "ctp",
        False,
        "What images must prove before they may run, in the namespaces it selects.",
    ),
)
"""The kinds of policies."""

EXCEPTIONS: Final = Resource(
    "TrustException",
    "trustexceptions",
    "te",
    True,
    "Who lets which image past which policy, why, and until when.",
    spec=ExceptionSpec,
    status=ExceptionStatus,
    columns=(
        {"name": "Active", "type": "boolean", "jsonPath": ".status.active"},
        {"name": "Reason", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Active")].reason'},
        {"name": "Expires", "type": "string", "jsonPath": ".spec.expiresAt"},
        {"name": "Uses", "type": "integer", "jsonPath": ".status.uses"},
        {"name": "Max", "type": "integer", "priority": 1, "jsonPath": ".spec.maxUses"},
        {"name": "Approved by", "type": "string", "priority": 1, "jsonPath": ".spec.approvedBy"},
        {"name": "Why", "type": "string", "priority": 1, "jsonPath": ".spec.reason"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ),
)
"""The kind of exceptions."""


def definitions(formats: Formats) -> list[Schema]:
    """The definitions of all kinds, as they are applied to a cluster."""
    return [_definition(resource, formats) for resource in (*RESOURCES, EXCEPTIONS)]


def _definition(resource: Resource, formats: Formats) -> Schema:
    spec = _schema(inspect.type_info(resource.spec))
    if "signers" in spec["properties"]:
        spec["properties"]["signers"] = _signers(spec["properties"]["signers"], formats)
    spec["x-kubernetes-validations"] += [msgspec.to_builtins(rule) for rule in resource.rules]
    schema = {
        "type": "object",
        "description": resource.about,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": _schema(inspect.type_info(resource.status)),
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [resource.short],
                "categories": ["trust"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": list(resource.columns),
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def _signers(written: Schema, formats: Formats) -> Schema:
    """The list of signers: a name and one of the formats, each as its own struct says."""
    bodies = {row.name: _schema(inspect.type_info(row.spec), {"description": row.about}) for row in formats.values()}
    bodies["ref"] = _schema(
        inspect.type_info(RefSpec), {"description": "A signer that a ClusterTrustPolicy describes."}
    )
    names = sorted(bodies)
    held = " || ".join(f"has(self.{name})" for name, row in sorted(formats.items()) if row.hold is not None)
    chosen = f"[{', '.join(f'has(self.{name})' for name in names)}].filter(given, given).size() == 1"
    return written | {
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {
                    "type": "string",
                    "description": "What `require` calls it.",
                    "maxLength": 63,
                    "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
                },
                "validity": _schema(
                    inspect.type_info(ValiditySpec), {"description": "When the signatures of this signer count."}
                ),
                "hardware": _schema(
                    inspect.type_info(HardwareSpec),
                    {"description": "The signer's keys must be shown to be in hardware."},
                ),
                **bodies,
            },
            "x-kubernetes-validations": [
                {"rule": chosen, "message": f"exactly one signature format is wanted: {', '.join(names)}"},
                {
                    "rule": "!has(self.validity) || !has(self.ref)",
                    "message": "the policy that is referred to says when its signer counts",
                    "fieldPath": ".validity",
                },
                {
                    "rule": f"!has(self.hardware) || {held}",
                    "message": "only a signer with a key of its own can have it in hardware",
                    "fieldPath": ".hardware",
                },
                {
                    "rule": "!(self.name in ['any', 'all', 'and', 'or', 'of'])",
                    "message": "a word of `require` cannot be a signer's name",
                    "fieldPath": ".name",
                },
            ],
        },
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }


def _schema(found: inspect.Type, described: Mapping[str, Any] | None = None) -> Schema:
    """The structural schema of one type. Bounds come from its constraints, words from its description."""
    extra = dict(described or {})
    match found:
        case inspect.Metadata(type=inner, extra_json_schema=given):
            return _schema(inner, {**extra, **(given or {})})
        case inspect.UnionType(types=types):
            # `null` is what a field that may be left out is read as, and nothing to write.
            written = [one for one in types if not isinstance(one, inspect.NoneType)]
            return _schema(written[0], extra) if len(written) == 1 else _FREE | extra
        case inspect.StructType():
            return _struct(found) | extra
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return {"type": "array", "items": _schema(item)} | _bounds(found, "Items") | extra
        case inspect.DictType(value_type=value):
            return {"type": "object", "additionalProperties": _schema(value)} | _bounds(found, "Properties") | extra
        case inspect.AnyType():
            return _FREE | extra
        case _:
            return _scalar(found) | extra


def _scalar(found: inspect.Type) -> Schema:
    match found:
        case inspect.StrType(max_length=int()):
            return {"type": "string"} | _bounds(found, "Length")
        case inspect.LiteralType(values=values):
            return {"type": "string", "enum": list(values)}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType(ge=least, le=most):
            bounds = {"minimum": least, "maximum": most}
            return {"type": "integer", "format": "int64"} | {k: v for k, v in bounds.items() if v is not None}
        case inspect.DateTimeType():
            return {"type": "string", "format": "date-time"}
        case _:
            # A text without a bound among them: it would have no place in the API server's cost budget.
            raise TypeError(f"no structural schema for {found!r}")


def _struct(found: inspect.StructType) -> Schema:
    properties = {}
    for field in found.fields:
        schema = _schema(field.type)
        if "enum" in schema and isinstance(field.default, str):
            schema["default"] = field.default
        properties[field.encode_name] = schema
    required = [field.encode_name for field in found.fields if field.required]
    rules: tuple[Rule, ...] = getattr(found.cls, "RULES", ())
    return (
        {"type": "object", "properties": properties}
        | ({"required": required} if required else {})
        | ({"x-kubernetes-validations": [msgspec.to_builtins(rule) for rule in rules]} if rules else {})
    )


def _bounds(found: inspect.ListType | inspect.VarTupleType | inspect.DictType | inspect.StrType, noun: str) -> Schema:
    bounds = {f"min{noun}": found.min_length, f"max{noun}": found.max_length}
    return {name: bound for name, bound in bounds.items() if bound is not None}
