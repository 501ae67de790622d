"""What an expression is made of. Each node knows its value in a scope, and pays for finding it.

Errors are values to `&&`, `||`, `all` and `exists`, which have a result as soon as one side decides; to everything else they
are the end. Source: CEL language definition, "Evaluation", "Macros".
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from webhook.parsing import quote
from webhook.policy.cel import values
from webhook.policy.cel.functions import Function
from webhook.policy.cel.values import Failure, Meter, Value


@dataclass(frozen=True, slots=True)
class Scope:
    """The names that mean something, and who counts what is spent."""

    names: Mapping[str, Value]
    meter: Meter

    def with_name(self, name: str, value: Value) -> "Scope":
        """The same with one more name."""
        return Scope({**self.names, name: value}, self.meter)


class Node(Protocol):
    """An expression."""

    @property
    def children(self) -> "Sequence[Node]":
        """The expressions in it."""
        ...

    @property
    def decides(self) -> bool:
        """Whether its value may be a boolean, as far as that can be told beforehand."""
        ...

    def value(self, scope: Scope) -> Value:
        """Its value. Raises `Failure`, or `TooCostly`."""
        ...


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that was written."""

    written: bool | int | float | str | None

    @property
    def children(self) -> Sequence[Node]:
        return ()

    @property
    def decides(self) -> bool:
        return isinstance(self.written, bool)

    def value(self, scope: Scope) -> Value:
        scope.meter.spend(1)
        return self.written


@dataclass(frozen=True, slots=True)
class Name:
    """A variable."""

    name: str

    @property
    def children(self) -> Sequence[Node]:
        return ()

    @property
    def decides(self) -> bool:
        return True

    def value(self, scope: Scope) -> Value:
        scope.meter.spend(1)
        return scope.names[self.name]


@dataclass(frozen=True, slots=True)
class List:
    """`[a, b]`."""

    children: tuple[Node, ...]

    @property
    def decides(self) -> bool:
        return False

    def value(self, scope: Scope) -> Value:
        scope.meter.spend(1)
        return [item.value(scope) for item in self.children]


@dataclass(frozen=True, slots=True)
class Map:
    """`{"a": b}`; keys are texts that were written, as in JSON."""

    keys: tuple[str, ...]
    children: tuple[Node, ...]

    @property
    def decides(self) -> bool:
        return False

    def value(self, scope: Scope) -> Value:
        scope.meter.spend(1)
        return {key: item.value(scope) for key, item in zip(self.keys, self.children, strict=True)}


@dataclass(frozen=True, slots=True)
class Select:
    """`of.field`; with `tests` it is `has(of.field)`."""

    of: Node
    field: str
    tests: bool = False

    @property
    def children(self) -> Sequence[Node]:
        return (self.of,)

    @property
    def decides(self) -> bool:
        return True

    def value(self, scope: Scope) -> Value:
        scope.meter.spend(1)
        holder = self.of.value(scope)
        if not isinstance(holder, dict):
            raise values.overload(f"a field {self.field}", holder)
        if self.tests:
            return self.field in holder
        if self.field not in holder:
            raise Failure(f"there is no field {self.field}")
        return holder[self.field]


@dataclass(frozen=True, slots=True)
class Index:
    """`of[at]`."""

    of: Node
    at: Node

    @property
    def children(self) -> Sequence[Node]:
        return self.of, self.at

    @property
    def decides(self) -> bool:
        return True

    def value(self, scope: Scope) -> Value:
        scope.meter.spend(1)
        holder, at = self.of.value(scope), self.at.value(scope)
        if isinstance(holder, list) and type(at) is int:
            if not 0 <= at < len(holder):
                raise Failure(f"there is no item {at}")
            return holder[at]
        if isinstance(holder, dict) and isinstance(at, str):
            if at not in holder:
                raise Failure(f"there is no field {quote(at, 80)}")
            return holder[at]
        raise values.overload("an index", holder, at)


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments."""

    function: Function
    children: tuple[Node, ...]

    @property
    def decides(self) -> bool:
        return self.function.decides

    def value(self, scope: Scope) -> Value:
        scope.meter.spend(1)
        return self.function.apply(scope.meter, *(argument.value(scope) for argument in self.children))


def _in(meter: Meter, item: Value, holder: Value) -> Value:
    if isinstance(holder, list):
        return any(values.equal(meter, item, one) for one in holder)
    if isinstance(holder, dict) and isinstance(item, str | int | float):
        # To Python `1 in {True: …}` holds; here every key is a text.
        return isinstance(item, str) and item in holder
    raise values.overload("`in`", item, holder)


def _negative(_meter: Meter, value: Value) -> Value:
    if type(value) is int:
        return values.integer_of(-value)
    if isinstance(value, float):
        return -value
    raise values.overload("`-`", value)


def _negated(_meter: Meter, value: Value) -> Value:
    if isinstance(value, bool):
        return not value
    raise values.overload("`!`", value)


def _arithmetic(operator: str) -> Callable[[Meter, Value, Value], Value]:
    return lambda _meter, one, other: values.reckon(operator, one, other)


OPERATORS: Final[Mapping[str, Function]] = {
    "==": Function(values.equal, 2, decides=True),
    "!=": Function(lambda meter, one, other: not values.equal(meter, one, other), 2, decides=True),
    "<": Function(values.less, 2, decides=True),
    "<=": Function(lambda meter, one, other: values.less(meter, one, other, or_equal=True), 2, decides=True),
    ">": Function(lambda meter, one, other: values.less(meter, other, one), 2, decides=True),
    ">=": Function(lambda meter, one, other: values.less(meter, other, one, or_equal=True), 2, decides=True),
    "in": Function(_in, 2, decides=True),
    "+": Function(values.add, 2),
    "-": Function(values.subtract, 2),
    "*": Function(_arithmetic("*"), 2),
    "/": Function(_arithmetic("/"), 2),
    "%": Function(_arithmetic("%"), 2),
}
"""Operators between two values."""

NEGATIVE: Final = Function(_negative)
NEGATED: Final = Function(_negated, decides=True)


def _decided(outcomes: Iterator[bool | Failure], by: bool) -> bool:
    """`by` as soon as one outcome is that, else the first failure, else its opposite."""
    failure: Failure | None = None
    for outcome in outcomes:
        if outcome is by:
            return by
        if isinstance(outcome, Failure):
            failure = failure or outcome
    if failure is not None:
        raise failure
    return not by


def _truth(node: Node, scope: Scope) -> bool | Failure:
    try:
        value = node.value(scope)
    except Failure as e:
        return e
    return value if isinstance(value, bool) else values.overload("a condition", value)


@dataclass(frozen=True, slots=True)
class Logic:
    """`a && b && …`, or with `by` true `a || b || …`: the value that decides it."""

    by: bool
    children: tuple[Node, ...]

    @property
    def decides(self) -> bool:
        return True

    def value(self, scope: Scope) -> Value:
        scope.meter.spend(1)
        return _decided((_truth(operand, scope) for operand in self.children), self.by)


@dataclass(frozen=True, slots=True)
class Choice:
    """`condition ? yes : no`."""

    condition: Node
    yes: Node
    no: Node

    @property
    def children(self) -> Sequence[Node]:
        return self.condition, self.yes, self.no

    @property
    def decides(self) -> bool:
        return self.yes.decides and self.no.decides

    def value(self, scope: Scope) -> Value:
        scope.meter.spend(1)
        holds = _truth(self.condition, scope)
        if isinstance(holds, Failure):
            raise holds
        return (self.yes if holds else self.no).value(scope)


def _each(over: Node, name: str, scope: Scope) -> Iterator[tuple[Value, Scope]]:
    """Every item of a list, every key of a map, and a scope in which `name` means it."""
    holder = over.value(scope)
    if not isinstance(holder, list | dict):
        raise values.overload("a macro over items", holder)
    for item in holder:
        scope.meter.spend(1)
        yield item, scope.with_name(name, item)


@dataclass(frozen=True, slots=True)
class Quantified:
    """`over.all(name, condition)`, or with `by` true `over.exists(name, condition)`."""

    by: bool
    over: Node
    name: str
    condition: Node

    @property
    def children(self) -> Sequence[Node]:
        return self.over, self.condition

    @property
    def decides(self) -> bool:
        return True

    def value(self, scope: Scope) -> Value:
        scope.meter.spend(1)
        return _decided((_truth(self.condition, inner) for _, inner in _each(self.over, self.name, scope)), self.by)


@dataclass(frozen=True, slots=True)
class Selected:
    """`over.filter(name, condition)`, or `over.exists_one(name, condition)`, which counts them."""

    counted: bool
    over: Node
    name: str
    condition: Node

    @property
    def children(self) -> Sequence[Node]:
        return self.over, self.condition

    @property
    def decides(self) -> bool:
        return self.counted

    def value(self, scope: Scope) -> Value:
        scope.meter.spend(1)
        found: list[Value] = []
        for item, inner in _each(self.over, self.name, scope):
            holds = _truth(self.condition, inner)
            if isinstance(holds, Failure):
                raise holds
            if holds:
                found.append(item)
        return len(found) == 1 if self.counted else found


@dataclass(frozen=True, slots=True)
class Mapped:
    """`over.map(name, result)`."""

    over: Node
    name: str
    result: Node

    @property
    def children(self) -> Sequence[Node]:
        return self.over, self.result

    @property
    def decides(self) -> bool:
        return False

    def value(self, scope: Scope) -> Value:
        scope.meter.spend(1)
        return [self.result.value(inner) for _, inner in _each(self.over, self.name, scope)]
