"""Text → expression, or a complaint with its place. Names and functions that do not exist are complaints too.

Source: CEL language definition, "Syntax", "Name Resolution", "Macros".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from webhook import limits
from webhook.parsing import Invalid, quote
from webhook.policy.cel import functions, nodes
from webhook.policy.cel.functions import Function
from webhook.policy.cel.lex import Token, tokens
from webhook.policy.cel.nodes import Node
from webhook.policy.cel.values import Failure, integer_of, read_duration, read_timestamp

T = TypeVar("T")

_RELATIONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})
_WORDS: Final = {"true": True, "false": False, "null": None}
_RESERVED: Final = frozenset(
    {
        *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "in", "let", "loop"),
        *("package", "namespace", "return", "var", "void", "while"),
    }
)
_MACROS: Final = frozenset({"all", "exists", "exists_one", "filter", "map"})

Variables = Mapping[str, frozenset[str] | None]
"""The names that exist, and for those of which that is known the fields they have."""


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was read. `reads`: the variables that it looks at, with a field where it looks at no other."""

    root: Node
    reads: frozenset[str]


def parse(text: str, variables: Variables) -> Expression:
    """The expression in `text`. Raises `Invalid`, whose message begins with the place of the mistake."""
    if len(text) > limits.MAX_WHERE:
        raise Invalid(f"column {limits.MAX_WHERE + 1}: longer than {limits.MAX_WHERE} characters")
    return _Parser(text, variables).parse()


@dataclass(slots=True)
class _Parser:
    """Recursive descent, one method for each level of precedence; binary operators by loops."""

    text: str
    variables: Variables
    _tokens: list[Token] = field(init=False)
    _at: int = 0
    _nesting: int = 0
    _bound: list[str] = field(default_factory=list)
    _reads: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._tokens = list(tokens(self.text))

    def parse(self) -> Expression:
        start = self._token
        root = self._expression()
        if self._token.kind != "end":
            raise self._fault(f"{self._shown} where an operator or the end is expected")
        if not root.decides:
            raise self._fault("it is never true or false, so it decides nothing", start)
        if _depth(root) > limits.MAX_WHERE_DEPTH:
            raise self._fault(f"more than {limits.MAX_WHERE_DEPTH} operations in one another", start)
        return Expression(root, frozenset(self._reads))

    # ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    @property
    def _shown(self) -> str:
        return "the end" if self._token.kind == "end" else quote(self._token.text, 40) or "an empty text"

    def _next(self) -> Token:
        token = self._token
        self._at += 1
        return token

    def _takes(self, *marks: str) -> str | None:
        """The mark or word that comes next, if it is one of these."""
        if self._token.kind not in {"mark", "name"} or self._token.text not in marks:
            return None
        return self._next().text

    def _expect(self, mark: str) -> None:
        if self._takes(mark) is None:
            raise self._fault(f"{self._shown} where `{mark}` is expected")

    def _fault(self, complaint: str, token: Token | None = None) -> Invalid:
        return Invalid(f"{(token or self._token).at}: {complaint}")

    def _nested(self, parse: Callable[[], T]) -> T:
        self._nesting += 1
        if self._nesting > limits.MAX_WHERE_NESTING:
            raise self._fault(f"nested deeper than {limits.MAX_WHERE_NESTING}")
        inner = parse()
        self._nesting -= 1
        return inner

    # ── precedence, lowest first ─────────────────────────────────────────────────────────────────────────────────────
    def _expression(self) -> Node:
        return self._nested(self._choice)

    def _choice(self) -> Node:
        condition = self._logic("||", by=True)
        if self._takes("?") is None:
            return condition
        yes = self._nested(lambda: self._logic("||", by=True))
        self._expect(":")
        return nodes.Choice(condition, yes, self._nested(self._choice))

    def _logic(self, mark: str, *, by: bool) -> Node:
        def operand() -> Node:
            return self._relation() if mark == "&&" else self._logic("&&", by=False)

        operands = [operand()]
        while self._takes(mark):
            operands.append(operand())
        return operands[0] if len(operands) == 1 else nodes.Logic(by, tuple(operands))

    def _relation(self) -> Node:
        left = self._chain(self._product, "+", "-")
        while operator := self._takes(*_RELATIONS):
            left = nodes.Call(nodes.OPERATORS[operator], (left, self._chain(self._product, "+", "-")))
        return left

    def _product(self) -> Node:
        return self._chain(self._unary, "*", "/", "%")

    def _chain(self, operand: Callable[[], Node], *marks: str) -> Node:
        left = operand()
        while operator := self._takes(*marks):
            left = nodes.Call(nodes.OPERATORS[operator], (left, operand()))
        return left

    def _unary(self) -> Node:
        token = self._token
        operator = self._takes("!", "-")
        if operator is None:
            return self._member()
        if operator == "-" and self._token.kind in {"integer", "double"}:
            return self._members_of(self._number(self._next(), "-", token))
        operand = self._nested(self._unary)
        return nodes.Call(nodes.NEGATED if operator == "!" else nodes.NEGATIVE, (operand,))

    def _member(self) -> Node:
        return self._members_of(self._primary())

    def _members_of(self, left: Node) -> Node:
        while mark := self._takes(".", "["):
            if mark == "[":
                left = nodes.Index(left, self._expression())
                self._expect("]")
                continue
            token = self._field()
            left = self._method(left, token) if self._takes("(") else nodes.Select(left, token.text)
        return left

    def _field(self) -> Token:
        if self._token.kind != "name" or self._token.text in _WORDS or self._token.text == "in":
            raise self._fault(f"{self._shown} where a field is expected")
        return self._next()

    # ── what stands by itself ────────────────────────────────────────────────────────────────────────────────────────
    def _primary(self) -> Node:
        token = self._token
        match token.kind:
            case "integer" | "double":
                return self._number(self._next(), "", token)
            case "text":
                return nodes.Literal(self._next().text)
            case "name":
                return self._named(self._next())
        if self._takes("("):
            inner = self._expression()
            self._expect(")")
            return inner
        if self._takes("["):
            return nodes.List(tuple(self._list_of(self._expression, "]")))
        if self._takes("{"):
            pairs = self._list_of(self._pair, "}")
            keys = tuple(key for key, _ in pairs)
            if len(set(keys)) < len(keys):
                raise self._fault("a key twice", token)
            return nodes.Map(keys, tuple(value for _, value in pairs))
        raise self._fault(f"{self._shown} where a value is expected")

    def _number(self, token: Token, sign: str, at: Token) -> Node:
        if token.kind == "double":
            return nodes.Literal(float(sign + token.text))
        if len(token.text) > limits.MAX_DIGITS:
            raise self._fault("an integer out of range", at)
        base = 16 if token.text[:2] in {"0x", "0X"} else 10
        try:
            return nodes.Literal(integer_of(int(sign + token.text, base)))
        except Failure as e:
            raise self._fault(str(e), at) from e

    def _pair(self) -> tuple[str, Node]:
        if self._token.kind != "text":
            raise self._fault(f"{self._shown} where a key is expected; keys are texts")
        key = self._next().text
        self._expect(":")
        return key, self._expression()

    def _list_of(self, parse: Callable[[], T], end: str) -> list[T]:
        """Items with commas between them, up to `end`; one more comma may follow the last."""
        items: list[T] = []
        while self._takes(end) is None:
            items.append(parse())
            if self._takes(",") is None:
                self._expect(end)
                break
        return items

    def _named(self, token: Token) -> Node:
        if token.text in _WORDS:
            return nodes.Literal(_WORDS[token.text])
        if token.text in _RESERVED:
            raise self._fault(f"{token.text} is a reserved word", token)
        if self._takes("("):
            return self._has(token) if token.text == "has" else self._call(token, functions.GLOBALS, ())
        if token.text in self._bound:
            return nodes.Name(token.text)
        if token.text not in self.variables:
            known = ", ".join([*self.variables, *self._bound])
            raise self._fault(f"unknown name {quote(token.text, 40)}; known: {known}", token)
        self._reads.add(self._looked_at(token))
        return nodes.Name(token.text)

    def _looked_at(self, variable: Token) -> str:
        """The variable, or the one field of it that is looked at here."""
        fields = self.variables[variable.text]
        dot, name, after = (self._tokens[min(self._at + ahead, len(self._tokens) - 1)] for ahead in range(3))
        if fields is None or dot.text != "." or name.kind != "name" or after.text == "(":
            return variable.text
        if name.text not in fields:
            raise self._fault(f"{variable.text} has no field {name.text}; it has: {', '.join(sorted(fields))}", name)
        return f"{variable.text}.{name.text}"

    def _has(self, token: Token) -> Node:
        tested = self._expression()
        self._expect(")")
        if not isinstance(tested, nodes.Select):
            raise self._fault("has() asks for a field: has(a.b)", token)
        return nodes.Select(tested.of, tested.field, tests=True)

    def _method(self, left: Node, token: Token) -> Node:
        if token.text in _MACROS:
            return self._macro(left, token)
        return self._call(token, functions.METHODS, (left,))

    def _call(self, token: Token, known: Mapping[str, Function], left: tuple[Node, ...]) -> Node:
        function = known.get(token.text)
        if function is None:
            raise self._fault(f"unknown function {quote(token.text, 40)}; known: {', '.join(sorted(known))}", token)
        arguments = (*left, *self._list_of(self._expression, ")"))
        if len(arguments) != function.takes:
            given, wanted = len(arguments) - len(left), function.takes - len(left)
            raise self._fault(f"{token.text} takes {wanted} arguments, not {given}", token)
        self._refuse_wrong_text(token, arguments[-1])
        return nodes.Call(function, arguments)

    def _refuse_wrong_text(self, token: Token, argument: Node) -> None:
        """What was written can be looked at now, and not only when an image is judged."""
        readers: dict[str, Callable[[str], object]] = {
            "matches": functions.compile_pattern,
            "timestamp": read_timestamp,
            "duration": read_duration,
        }
        if (
            token.text not in readers
            or not isinstance(argument, nodes.Literal)
            or not isinstance(argument.written, str)
        ):
            return
        try:
            readers[token.text](argument.written)
        except Failure as e:
            raise self._fault(str(e), token) from e

    def _macro(self, over: Node, token: Token) -> Node:
        name = self._field()
        if name.text in self.variables or name.text in self._bound or name.text in _RESERVED:
            raise self._fault(f"{name.text} means something else already", name)
        self._expect(",")
        self._bound.append(name.text)
        arguments = self._list_of(self._expression, ")")
        self._bound.pop()
        match token.text, arguments:
            case ("all" | "exists") as quantifier, [condition]:
                return nodes.Quantified(quantifier == "exists", over, name.text, condition)
            case ("filter" | "exists_one") as quantifier, [condition]:
                return nodes.Selected(quantifier == "exists_one", over, name.text, condition)
            case "map", [result]:
                return nodes.Mapped(over, name.text, result)
            case "map", [condition, result]:
                return nodes.Mapped(nodes.Selected(False, over, name.text, condition), name.text, result)
        raise self._fault(f"{token.text} takes a name and a condition", token)


def _depth(root: Node) -> int:
    """How many operations stand in one another: chains of operators nest too, without a parenthesis in sight."""
    depth, level = 0, [root]
    while level:
        depth, level = depth + 1, [child for node in level for child in node.children]
    return depth
