"""The custom resource definitions: structural, closed, bounded, described, and the same wherever they are shipped."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from cel_expr_python import cel as oracle
from msgspec import Meta, Struct, inspect

from webhook.cli.crd import render
from webhook.formats import FORMATS
from webhook.policy.schema import EXCEPTIONS, RESOURCES, _schema, definitions
from webhook.policy.spec import AttestationSpec, DenySpec, PolicySpec, Rule, ValiditySpec

ROOT = Path(__file__).parents[2]
DEFINITIONS = {definition["spec"]["names"]["kind"]: definition for definition in definitions(FORMATS)}


def schema_of(kind: str) -> dict[str, Any]:
    (version,) = DEFINITIONS[kind]["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below `schema`, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from nodes(schema[word], f"{path}[]")


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_every_field_is_typed_bounded_and_described(kind: str) -> None:
    for path, node in nodes(schema_of(kind)):
        if path in {"", ".apiVersion", ".kind", ".metadata"}:
            continue
        assert not {"$ref", "anyOf", "oneOf", "title"} & set(node), path
        if node.get("x-kubernetes-preserve-unknown-fields"):
            assert path.endswith(".identity"), path  # a text or an object: the one thing a structural schema cannot say
        elif node["type"] == "string":
            assert "maxLength" in node or "enum" in node or node.get("format") == "date-time", path
        elif node["type"] == "array":
            assert "maxItems" in node, path
        elif "additionalProperties" in node:
            assert "maxProperties" in node, path
        if path not in {".spec", ".status"} and not path.endswith("[]"):
            assert node.get("description"), path


@pytest.mark.parametrize("kind", [resource.kind for resource in RESOURCES])
def test_every_field_of_a_format_is_in_the_schema(kind: str) -> None:
    signers = schema_of(kind)["properties"]["spec"]["properties"]["signers"]["items"]["properties"]
    for name, row in FORMATS.items():
        fields = inspect.type_info(row.spec)
        assert isinstance(fields, inspect.StructType)
        assert set(signers[name]["properties"]) == {field.encode_name for field in fields.fields}
    assert set(signers) == {"name", "validity", "hardware", "ref", *FORMATS}


def test_a_text_without_a_bound_cannot_be_shipped() -> None:
    class Loose(Struct):
        text: Annotated[str, Meta(description="Anything.")]

    with pytest.raises(TypeError, match="no structural schema"):
        _schema(inspect.type_info(Loose))


def test_names_people_type() -> None:
    assert [(r.kind, r.plural, r.short, r.namespaced) for r in RESOURCES] == [
        ("TrustPolicy", "trustpolicies", "tp", True),
        ("ClusterTrustPolicy", "clustertrustpolicies", "ctp", False),
    ]
    assert (EXCEPTIONS.kind, EXCEPTIONS.plural, EXCEPTIONS.short, EXCEPTIONS.namespaced) == (
        "TrustException", "trustexceptions", "te", True,
    )  # fmt: skip
    for kind, definition in DEFINITIONS.items():
        assert definition["spec"]["names"]["categories"] == ["trust"]
        (version,) = definition["spec"]["versions"]
        assert version["subresources"] == {"status": {}}
        columns = [column["name"] for column in version["additionalPrinterColumns"] if not column.get("priority")]
        assert columns == (
            ["Active", "Reason", "Expires", "Uses", "Age"]
            if kind == EXCEPTIONS.kind
            else ["Mode", "Ready", "On duty", "Allowed", "Denied", "Would deny", "Age"]
        )


def test_m07_what_the_schema_can_see_of_an_exception_it_refuses() -> None:
    spec = schema_of(EXCEPTIONS.kind)["properties"]["spec"]
    assert spec["required"] == ["policies", "images", "reason", "requestedBy", "expiresAt"]
    approval, unchanged, digests = (rule["rule"] for rule in spec["x-kubernetes-validations"])
    assert approval == "!has(self.approvedBy) || self.approvedBy != self.requestedBy"
    # Everything but the approval, so that no field is left out of what was approved.
    for name in set(spec["properties"]) - {"approvedBy"}:
        assert f"self.{name} == oldSelf.{name}" in unchanged, name
    assert "sha256:[a-f0-9]{64}$" in digests
    assert spec["properties"]["maxUses"] == {
        "type": "integer", "format": "int64", "minimum": 1, "maximum": 1_000_000,
        "description": "In how many Pods it lets images; default: any number.",
    }  # fmt: skip


@pytest.mark.parametrize("file", ["manifests/crds.yaml", "charts/trusted-images/files/crds.yaml"])
def test_what_is_shipped_is_what_is_generated(file: str) -> None:
    assert (ROOT / file).read_text("utf-8") == render(), f"kubectl trust crd > {file}"
    assert [document["kind"] for document in yaml.safe_load_all(render())] == ["CustomResourceDefinition"] * 3


ENV = oracle.NewEnv(variables={"self": oracle.Type.DYN, "oldSelf": oracle.Type.DYN})


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_every_rule_is_an_expression(kind: str) -> None:
    rules = [rule["rule"] for _, node in nodes(schema_of(kind)) for rule in node.get("x-kubernetes-validations", ())]
    assert rules
    for rule in rules:
        assert ENV.compile(rule).return_type() in (oracle.Type.BOOL, oracle.Type.DYN), rule


T, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"  # of one length, so that text is in their order
SIGNERS = [{"name": "a"}]


@pytest.mark.parametrize(
    ("rules", "good", "bad"),
    [
        (ValiditySpec.RULES, {"notBefore": T, "notAfter": LATER}, {"notBefore": LATER, "notAfter": T}),
        (ValiditySpec.RULES, {"notAfter": T}, {}),
        (AttestationSpec.RULES, {"name": "x"}, {"name": "of"}),
        (AttestationSpec.RULES, {"name": "x", "signedBy": ["a"]}, {"name": "x", "signedBy": []}),
        (DenySpec.RULES, {"signers": ["issuer=x,subject=y"]}, {"signers": ["x"]}),
        (DenySpec.RULES, {"certSerials": ["0A:1f"]}, {"certSerials": ["0x1f"]}),
        (DenySpec.RULES, {"signedAfter": T, "signedBefore": LATER}, {"signedAfter": T, "signedBefore": T}),
        (DenySpec.RULES, {"signedAfter": T}, {"digests": ["x"]}),
        (
            PolicySpec.RULES,
            {"signers": SIGNERS, "attestations": [{"name": "x"}]},
            {"signers": SIGNERS, "attestations": [{"name": "a"}]},
        ),
        (PolicySpec.RULES, {"deny": {}}, {"deny": {}, "attestations": [{"name": "x"}]}),
    ],
)
def test_rules_refuse_what_the_parser_would(rules: Sequence[Rule], good: dict[str, Any], bad: dict[str, Any]) -> None:
    def holds(document: dict[str, Any]) -> bool:
        answers = [ENV.compile(rule.rule).eval(data={"self": document}).value() for rule in rules]
        assert set(answers) <= {True, False}, answers
        return all(answers)

    assert holds(good)
    assert not holds(bad)
