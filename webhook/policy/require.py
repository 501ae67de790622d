"""The `require` expression: its grammar, and its evaluation in three values.

    expr := term {"or" term};  term := atom {"and" atom}
    atom := NAME | "any" | "all" | "(" expr ")" | INT "of" "(" expr {"," expr} ")"

Satisfied, not satisfied, unknown (Kleene's logic). Keeping "unknown" until the expression is evaluated lets `a or b` hold
while b's registry is down, and keeps a certain no from being disguised as an outage.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, assert_never

from webhook import limits
from webhook.parsing import Invalid, quote
from webhook.verdict import Finding, Proof, Satisfied, Unknown, Unsatisfied

RESERVED: Final = frozenset({"any", "all", "and", "or", "of"})
_SPACE: Final = " \t\r\n"
_TOKEN: Final = re.compile(r"[ \t\r\n]*(?:(?P<word>[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)|(?P<mark>[(),]))")


@dataclass(frozen=True, slots=True)
class Name:
    """One signer or attestation."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class AtLeast:
    """`n` of the operands. `a and b` is 2 of 2, `a or b` 1 of 2; only a written `N of` is `distinct`.

    Distinct operands must be satisfied by as many different identities: one key under two names counts once.
    """

    n: int
    operands: "tuple[Expr, ...]"
    distinct: bool

    def __str__(self) -> str:
        if self.distinct:
            return f"{self.n} of ({', '.join(map(str, self.operands))})"
        word = " or " if self.n == 1 else " and "
        return f"({word.join(map(str, self.operands))})"


Expr = Name | AtLeast


def parse_require(text: str, signers: Sequence[str], attestations: Sequence[str] = ()) -> Expr:
    """The expression over these names. `any` is any signer, `all` every signer and attestation.

    Raises `Invalid`, whose message begins with the column, counted from 1.
    """
    if len(text) > limits.MAX_REQUIRE:
        raise Invalid(f"column {limits.MAX_REQUIRE + 1}: longer than {limits.MAX_REQUIRE} characters")
    return _Parser(text, signers, attestations).parse()


def default_require(signers: Sequence[str], attestations: Sequence[str] = ()) -> Expr:
    """What a policy demands that does not say: any signer, and every attestation."""
    any_signer = _one_or(1, [Name(name) for name in signers])
    return _one_or(1 + len(attestations), [any_signer, *(Name(name) for name in attestations)])


def _one_or(n: int, operands: Sequence[Expr]) -> Expr:
    return operands[0] if len(operands) == 1 else AtLeast(n, tuple(operands), distinct=False)


class _Parser:
    """Recursive descent over the tokens, each with the column it begins at."""

    def __init__(self, text: str, signers: Sequence[str], attestations: Sequence[str]) -> None:
        self._signers = signers
        self._names = [*signers, *attestations]
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0

    def parse(self) -> Expr:
        expression = self._expr()
        if self._word != "":
            self._complain(f"{quote(self._word, 40)} where `and`, `or` or the end is expected")
        return expression

    @property
    def _word(self) -> str:
        return self._tokens[self._at][1]

    def _next(self) -> str:
        word = self._word
        self._at += 1
        return word

    def _complain(self, complaint: str) -> NoReturn:
        raise Invalid(f"column {self._tokens[self._at][0]}: {complaint}")

    def _expect(self, word: str) -> None:
        if self._word != word:
            self._complain(f"{quote(self._word, 40) or 'the end'} where `{word}` is expected")
        self._next()

    def _expr(self) -> Expr:
        operands = [self._term()]
        while self._word == "or":
            self._next()
            operands.append(self._term())
        return _one_or(1, operands)

    def _term(self) -> Expr:
        operands = [self._atom()]
        while self._word == "and":
            self._next()
            operands.append(self._atom())
        return _one_or(len(operands), operands)

    def _atom(self) -> Expr:
        word = self._word
        if word == "(":
            self._next()
            inner = self._nested(self._expr)
            self._expect(")")
            return inner
        if word == "any":
            self._next()
            return _one_or(1, [Name(name) for name in self._signers])
        if word == "all":
            self._next()
            return _one_or(len(self._names), [Name(name) for name in self._names])
        if word.isdigit() and self._tokens[self._at + 1][1] == "of":
            return self._n_of()
        if word not in self._names:
            known = f"; known: {', '.join(self._names)}"
            what = (
                "a name is expected"
                if word in RESERVED or word in {"", ")", ","}
                else f'unknown name "{quote(word, 40)}"'
            )
            self._complain(f"{what}{known}")
        self._next()
        return Name(word)

    def _n_of(self) -> Expr:
        column = self._at
        n = int(self._next())
        self._expect("of")
        self._expect("(")
        operands = [self._nested(self._expr)]
        while self._word == ",":
            self._next()
            operands.append(self._nested(self._expr))
        self._expect(")")
        self._at, end = column, self._at
        if n < 1:
            self._complain("0 of anything is always satisfied")
        if n > len(operands):
            self._complain(f"{n} of {len(operands)} can never be satisfied")
        if len(set(operands)) < len(operands):
            self._complain("the same operand twice")
        self._at = end
        return AtLeast(n, tuple(operands), distinct=True)

    def _nested(self, parse: Callable[[], Expr]) -> Expr:
        self._depth += 1
        if self._depth > limits.MAX_REQUIRE_DEPTH:
            self._complain(f"nested deeper than {limits.MAX_REQUIRE_DEPTH}")
        inner = parse()
        self._depth -= 1
        return inner


def _tokens(text: str) -> Iterator[tuple[int, str]]:
    """Column and text of every token; the end is an empty one."""
    at = 0
    while at < len(text.rstrip(_SPACE)):
        match = _TOKEN.match(text, at)
        if match is None:
            column = at + len(text[at:]) - len(text[at:].lstrip(_SPACE)) + 1
            raise Invalid(f"column {column}: {quote(text[column - 1])} is not part of any name")
        yield match.start(match.lastgroup or 0) + 1, match[match.lastgroup or 0]
        at = match.end()
    yield len(text.rstrip(_SPACE)) + 1, ""


def names(expression: Expr) -> frozenset[str]:
    """Every name in the expression."""
    if isinstance(expression, Name):
        return frozenset({expression.name})
    return frozenset().union(*map(names, expression.operands))


def needs_all_proofs(expression: Expr) -> bool:
    """Whether identities are counted somewhere, so that a first proof of each signer is not enough."""
    if isinstance(expression, Name):
        return False
    return (expression.distinct and expression.n > 1) or any(map(needs_all_proofs, expression.operands))


def evaluate(expression: Expr, findings: Mapping[str, Finding]) -> Finding:
    """What the findings come to. A name without a finding is unknown."""
    match expression:
        case Name():
            return findings.get(expression.name) or Unknown((f'"{expression.name}" was not judged',))
        case AtLeast():
            operands = [evaluate(operand, findings) for operand in expression.operands]
            return _distinct(expression.n, operands) if expression.distinct else _at_least(expression.n, operands)
        case _:
            assert_never(expression)


def _at_least(n: int, operands: Sequence[Finding]) -> Finding:
    satisfied = [operand for operand in operands if isinstance(operand, Satisfied)]
    unknown = [operand for operand in operands if isinstance(operand, Unknown)]
    if len(satisfied) >= n > 0:
        return _together(satisfied)
    if n > 0 and len(satisfied) + len(unknown) >= n:
        return Unknown(_once(cause for operand in unknown for cause in operand.causes))
    return _not_satisfied(operands)


def _distinct(n: int, operands: Sequence[Finding]) -> Finding:
    """Operands are matched to identities, so that one identity serves one operand, whichever it helps most.

    A place that could not be read might hold another identity's signature, even for an operand that is satisfied.
    """
    satisfied = [operand for operand in operands if isinstance(operand, Satisfied)]
    who = _people(proof for operand in satisfied for proof in operand.proofs)
    identities = [frozenset(who[proof.identity] for proof in operand.proofs) for operand in satisfied]
    if n > 0 and _matched(identities) >= n:
        return _together(satisfied)
    settled = [known for known, operand in zip(identities, satisfied, strict=True) if not operand.causes]
    open_operands = [op for op in operands if isinstance(op, Unknown) or (isinstance(op, Satisfied) and op.causes)]
    if n > 0 and _matched(settled) + len(open_operands) >= n:
        return Unknown(_once(cause for operand in open_operands for cause in operand.causes))
    return _not_satisfied(operands, identities, n)


def _not_satisfied(operands: Sequence[Finding], identities: Sequence[frozenset[str]] = (), n: int = 0) -> Unsatisfied:
    reasons = _once(reason for operand in operands if isinstance(operand, Unsatisfied) for reason in operand.reasons)
    if n > 0 and len(identities) >= n:
        same = ", ".join(sorted(frozenset().union(*identities)))
        reasons = (
            *reasons,
            f"{n} different signers are wanted, and {len(identities)} names are signed by {same} alone",
        )
    return Unsatisfied(reasons or ("nothing is required, and nothing satisfies it",))


def _together(satisfied: Sequence[Satisfied]) -> Satisfied:
    proofs = frozenset().union(*(operand.proofs for operand in satisfied))
    return Satisfied(proofs, _once(cause for operand in satisfied for cause in operand.causes))


def _people(proofs: Iterable[Proof]) -> dict[str, str]:
    """For each identity the one that stands for it: two certificates of one key, or a key and its certificate, are one signer."""
    chosen: dict[str, str] = {}

    def find(name: str) -> str:
        while chosen.setdefault(name, name) != name:
            name = chosen[name]
        return name

    for proof in sorted(proofs, key=lambda proof: proof.identity):
        # The signer's own key; the others are those of authorities, which vouch for many.
        first, other = sorted((find(proof.identity), find(proof.keys[0] if proof.keys else proof.identity)))
        chosen[other] = first
    return {name: find(name) for name in chosen}


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _matched(operands: Sequence[frozenset[str]]) -> int:
    """How many operands can be given an identity of their own (maximum bipartite matching by augmenting paths)."""
    owner: dict[str, int] = {}

    def assign(operand: int, tried: set[str]) -> bool:
        for identity in sorted(operands[operand] - tried):
            tried.add(identity)
            if identity not in owner or assign(owner[identity], tried):
                owner[identity] = operand
                return True
        return False

    return sum(assign(operand, set()) for operand in range(len(operands)))
