"""The `require` language: its errors with columns, and its three-valued meaning (attack M-10, V-01, V-02)."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook import limits
from webhook.parsing import Invalid
from webhook.policy.require import (
    AtLeast,
    Expr,
    Name,
    default_require,
    evaluate,
    names,
    needs_all_proofs,
    parse_require,
)
from webhook.verdict import Finding, Proof, Satisfied, Unknown, Unsatisfied

NAMES = ("a", "b", "c")


def parsed(text: str) -> Expr:
    return parse_require(text, NAMES, ("sbom",))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a", "a"),
        ("(a)", "a"),
        ("a and b", "(a and b)"),
        ("a or b and c", "(a or (b and c))"),
        ("(a or b) and c", "((a or b) and c)"),
        ("any", "(a or b or c)"),
        ("all", "(a and b and c and sbom)"),
        ("any and sbom", "((a or b or c) and sbom)"),
        ("2 of (a, b, c)", "2 of (a, b, c)"),
        ("1 of (a)", "1 of (a)"),
        ("2 of (a and b, c or sbom)", "2 of ((a and b), (c or sbom))"),
        (" a\n\tand  b ", "(a and b)"),
        ("a or b or c", "(a or b or c)"),
    ],
)
def test_what_can_be_written(text: str, shown: str) -> None:
    assert str(parsed(text)) == shown
    assert str(parsed(shown)) == shown


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "column 1: a name is expected; known: a, b, c, sbom"),
        ("  ", "column 1: a name is expected; known: a, b, c, sbom"),
        ("d", 'column 1: unknown name "d"; known: a, b, c, sbom'),
        ("a and d", 'column 7: unknown name "d"; known: a, b, c, sbom'),
        ("a and", "column 6: a name is expected; known: a, b, c, sbom"),
        ("a  b", "column 4: b where `and`, `or` or the end is expected"),
        ("(a", "column 3: the end where `)` is expected"),
        ("a)", "column 2: ) where `and`, `or` or the end is expected"),
        ("()", "column 2: a name is expected; known: a, b, c, sbom"),
        ("not a", 'column 1: unknown name "not"; known: a, b, c, sbom'),
        ("a & b", "column 3: & is not part of any name"),
        ("a AND b", "column 3: A is not part of any name"),
        ("a\N{NO-BREAK SPACE}and b", "column 2: \\xa0 is not part of any name"),
        ("0 of (a)", "column 1: 0 of anything is always satisfied"),
        ("00 of (a)", "column 1: 0 of anything is always satisfied"),
        ("a and 3 of (a, b)", "column 7: 3 of 2 can never be satisfied"),
        ("2 of (a, a)", "column 1: the same operand twice"),
        ("2 of a", "column 6: a where `(` is expected"),
        ("2 of (a b)", "column 9: b where `)` is expected"),
        ("2 (a, b)", 'column 1: unknown name "2"; known: a, b, c, sbom'),
        ("-1 of (a)", "column 1: - is not part of any name"),
        ("of", "column 1: a name is expected; known: a, b, c, sbom"),
        ("(" * 17 + "a" + ")" * 17, "column 18: nested deeper than 16"),
        ("1 of (" * 17 + "a" + ")" * 17, "column 103: nested deeper than 16"),
        ("a" * (limits.MAX_REQUIRE + 1), "column 4097: longer than 4096 characters"),
    ],
)
def test_m10_what_cannot_has_its_column(text: str, complaint: str) -> None:
    with pytest.raises(Invalid) as refused:
        parsed(text)
    assert str(refused.value) == complaint


def test_names_may_be_digits_only_where_no_count_is_meant() -> None:
    assert parse_require("2", ("2", "3")) == Name("2")
    assert str(parse_require("2 of (2, 3)", ("2", "3"))) == "2 of (2, 3)"


def test_without_require_any_signer_and_every_attestation_is_wanted() -> None:
    assert default_require(["a"]) == Name("a")
    assert str(default_require(["a", "b"])) == "(a or b)"
    assert str(default_require(["a", "b"], ["sbom", "vulns"])) == "((a or b) and sbom and vulns)"


def test_which_names_and_whether_all_proofs_are_needed() -> None:
    assert names(parsed("a and (b or 1 of (c))")) == {"a", "b", "c"}
    assert not needs_all_proofs(parsed("a"))
    assert not needs_all_proofs(parsed("a and 1 of (b, c)"))
    assert needs_all_proofs(parsed("a and (b or 2 of (b, c))"))


def proof(identity: str) -> Proof:
    return Proof("cosign", identity, "here")


def signed(*identities: str, causes: tuple[str, ...] = ()) -> Satisfied:
    return Satisfied(frozenset(proof(i) for i in identities), causes)


NO = Unsatisfied(("no",))
DOWN = Unknown(("down",))
VALUES: tuple[Finding, ...] = (signed("1"), NO, DOWN)


@pytest.mark.parametrize(
    ("text", "findings", "kind"),
    [
        ("a", {}, Unknown),
        ("a", {"a": NO}, Unsatisfied),
        ("a", {"a": DOWN}, Unknown),
        ("a", {"a": signed("1")}, Satisfied),
        ("a or b", {"a": signed("1"), "b": DOWN}, Satisfied),
        ("a or b", {"a": NO, "b": DOWN}, Unknown),
        ("a or b", {"a": NO, "b": NO}, Unsatisfied),
        ("a and b", {"a": NO, "b": DOWN}, Unsatisfied),
        ("a and b", {"a": signed("1"), "b": DOWN}, Unknown),
        ("a and b", {"a": signed("1"), "b": signed("1")}, Satisfied),
        # One key under two names is one signer.
        ("2 of (a, b)", {"a": signed("1"), "b": signed("1")}, Unsatisfied),
        ("2 of (a, b)", {"a": signed("1", "2"), "b": signed("1")}, Satisfied),
        ("2 of (a, b, c)", {"a": signed("1"), "b": signed("1"), "c": DOWN}, Unknown),
        ("2 of (a, b, c)", {"a": signed("1"), "b": signed("1"), "c": NO}, Unsatisfied),
        # What could not be read of a satisfied signer might have been another identity's signature.
        ("2 of (a, b)", {"a": signed("1"), "b": signed("1", causes=("down",))}, Unknown),
        ("3 of (a, b, c)", {"a": signed("1"), "b": signed("1"), "c": signed("1", causes=("down",))}, Unsatisfied),
        # The matching is maximal, not greedy.
        ("3 of (a, b, c)", {"a": signed("1", "2"), "b": signed("1"), "c": signed("2", "3")}, Satisfied),
        ("3 of (a, b, c)", {"a": signed("1", "2"), "b": signed("1", "2"), "c": signed("1", "2")}, Unsatisfied),
    ],
)
def test_v04_three_values(text: str, findings: dict[str, Finding], kind: type[Finding]) -> None:
    assert isinstance(evaluate(parsed(text), findings), kind)


def test_one_key_under_two_names_is_said_so() -> None:
    found = evaluate(parsed("2 of (a, b)"), {"a": signed("K"), "b": signed("K")})
    assert found == Unsatisfied(("2 different signers are wanted, and 2 names are signed by K alone",))


def test_reasons_and_causes_are_told_once_and_proofs_kept() -> None:
    assert evaluate(parsed("a or b"), {"a": NO, "b": NO}) == NO
    assert evaluate(parsed("a or b"), {"a": DOWN, "b": DOWN}) == DOWN
    both = evaluate(parsed("a and b"), {"a": signed("1", causes=("x",)), "b": signed("2", causes=("x",))})
    assert both == Satisfied(frozenset({proof("1"), proof("2")}), ("x",))


def test_v01_an_empty_or_zero_requirement_is_satisfied_by_nothing() -> None:
    for distinct in (True, False):
        for n in (0, 1):
            empty = AtLeast(n, (), distinct=distinct)
            assert evaluate(empty, {}) == Unsatisfied(("nothing is required, and nothing satisfies it",))
        assert isinstance(evaluate(AtLeast(0, (Name("a"),), distinct=distinct), {"a": signed("1")}), Unsatisfied)


_EXPRESSIONS = st.recursive(
    st.sampled_from(NAMES).map(Name),
    lambda inner: st.lists(inner, min_size=1, max_size=3).flatmap(
        lambda operands: st.builds(
            AtLeast, st.integers(1, len(operands)), st.just(tuple(operands)), distinct=st.just(value=False)
        )
    ),
    max_leaves=8,
)


@given(_EXPRESSIONS)
def test_v04_the_result_is_what_every_way_the_unknown_could_turn_out_agrees_on(expression: Expr) -> None:
    for given_values in itertools.product(VALUES, repeat=len(NAMES)):
        findings: dict[str, Finding] = dict(zip(NAMES, given_values, strict=True))
        found = evaluate(expression, findings)
        open_names = [name for name in NAMES if isinstance(findings[name], Unknown)]
        endings = {
            type(evaluate(expression, {**findings, **dict(zip(open_names, values, strict=True))}))
            for values in itertools.product(VALUES[:2], repeat=len(open_names))
        }
        # Sound: a certain answer is certain. (An unknown one may be certain only when a name occurs twice.)
        if not isinstance(found, Unknown):
            assert endings == {type(found)}
        assert Unknown not in endings


@given(st.lists(st.frozensets(st.integers(0, 3), max_size=4), min_size=1, max_size=4), st.data())
def test_n_of_counts_as_trying_every_assignment_does(held: list[frozenset[int]], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(held)))
    findings: dict[str, Finding] = {
        f"n{i}": signed(*map(str, identities)) if identities else NO for i, identities in enumerate(held)
    }
    found = evaluate(AtLeast(n, tuple(map(Name, findings)), distinct=True), findings)
    possible = any(
        len(set(choice)) == n for chosen in itertools.combinations(held, n) for choice in itertools.product(*chosen)
    )
    assert isinstance(found, Satisfied) == possible


@given(st.text(alphabet="abc ()of,and2rny\n&-", max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        expression = parsed(text)
    except Invalid as complaint:
        assert str(complaint).startswith("column ")
    else:
        assert parsed(str(expression)) == expression


def test_c07_two_names_of_one_signer_count_once() -> None:
    """A key and a certificate of it, two certificates of one key, one name with two keys: each is one signer."""

    def found(identity: str, *keys: str) -> Satisfied:
        return Satisfied(frozenset({Proof("x", identity, "here", keys=keys)}))

    two = parsed("2 of (a, b)")
    for one, other in (
        (found("key"), found("name", "key", "authority")),
        (found("name", "key"), found("another name", "key")),
        (found("name", "key"), found("name", "another key")),
    ):
        assert isinstance(evaluate(two, {"a": one, "b": other}), Unsatisfied)
        assert isinstance(evaluate(two, {"a": other, "b": one}), Unsatisfied)
    # One authority vouches for many.
    different = {"a": found("name", "key", "authority"), "b": found("another", "another key", "authority")}
    assert isinstance(evaluate(two, different), Satisfied)
    # By way of a third.
    three = parse_require("3 of (a, b, c)", NAMES)
    chained = {"a": found("name", "key"), "b": found("name", "another key"), "c": found("another", "another key")}
    assert isinstance(evaluate(three, chained), Unsatisfied)
    assert isinstance(evaluate(two, {"a": chained["a"], "b": chained["c"]}), Satisfied)
