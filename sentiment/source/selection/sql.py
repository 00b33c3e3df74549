"""Parses conditions on rows, which are written as SQL writes them after WHERE.

sqlglot parses; what it finds becomes one of our conditions. Anything else is refused by name.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from sentiment.errors import ConfigError
from sentiment.source.selection.compare import Value, in_utc
from sentiment.source.selection.conditions import (
    And,
    Column,
    Compare,
    Condition,
    IsLike,
    IsNull,
    Not,
    Or,
)

_OPERATIONS: Final[dict[type[exp.Expression], str]] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_MIRRORED: Final = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_FUNCTIONS: Final[dict[type[exp.Expression], str]] = {
    exp.Lower: "lower",
    exp.Upper: "upper",
    exp.Length: "length",
}
# Of the parts of a node: a part that is not looked at would be lost without a word. sqlglot has
# NOT LIKE as a part of LIKE, for example.
_PARTS: Final = frozenset(
    {"this", "expression", "expressions", "low", "high", "negate", "table", "db", "catalog", "to",
     "is_string"}
)  # fmt: skip
_KNOWN = (
    "known are = <> < <= > >=, IN, BETWEEN, LIKE, ILIKE, IS NULL, AND, OR, NOT, lower, upper, "
    "length, texts in single quotes, numbers, TRUE, FALSE, DATE '…' and TIMESTAMP '…'"
)


def parse_condition(text: str) -> Condition:
    """Parse a condition.

    Args:
        text: For example `dt >= '2026-11-01' and country = 'de'`. Names of columns may stand in
            double quotes.

    Raises:
        ConfigError: It is no condition, or has something in it that is not known here.
    """
    try:
        found = sqlglot.parse(text)
    except SqlglotError as error:
        raise ConfigError(f"--where: {_where_it_ends(error)}; {_KNOWN}") from error
    if len(found) != 1 or found[0] is None:
        raise ConfigError(f"--where: give one condition, such as rating >= 4; {_KNOWN}")
    try:
        return _condition(found[0])
    except ValueError as error:
        raise ConfigError(f"--where: {error}; {_KNOWN}") from error


def _where_it_ends(error: SqlglotError) -> str:
    places = getattr(error, "errors", [])
    column = places[0].get("col") if places else None
    return f"cannot be parsed at character {column}" if column else "cannot be parsed"


def _condition(node: Any) -> Condition:
    _check_parts(node)
    if isinstance(node, exp.Paren):
        return _condition(node.this)
    if isinstance(node, exp.And | exp.Or):
        kind = And if isinstance(node, exp.And) else Or
        return kind((_condition(node.left), _condition(node.right)))
    if isinstance(node, exp.Not):
        return Not(_condition(node.this))
    if type(node) in _OPERATIONS:
        return _comparison(node.left, _OPERATIONS[type(node)], node.right)
    if isinstance(node, exp.Between):
        low, high = node.args["low"], node.args["high"]
        return And((_comparison(node.this, ">=", low), _comparison(node.this, "<=", high)))
    if isinstance(node, exp.In) and node.args.get("expressions"):
        parts = tuple(_comparison(node.this, "=", one) for one in node.args["expressions"])
        return parts[0] if len(parts) == 1 else Or(parts)
    if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
        return IsNull(_column(node.this))
    if isinstance(node, exp.Like | exp.ILike):
        pattern = _value(node.expression)
        if isinstance(pattern, str):
            like = IsLike(_column(node.this), pattern, isinstance(node, exp.ILike))
            return Not(like) if node.args.get("negate") else like
    if isinstance(node, exp.Column):
        return Compare(_column(node), "=", True)
    raise ValueError(_not_known(node))


def _comparison(left: Any, operation: str, right: Any) -> Condition:
    one, other = _operand(left), _operand(right)
    if isinstance(one, Column):
        return Compare(one, operation, other)
    if isinstance(other, Column):
        return Compare(other, _MIRRORED[operation], one)
    raise ValueError("a comparison names no column; names stand bare or in double quotes")


def _operand(node: Any) -> Value | Column:
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.Column) or type(node) in _FUNCTIONS:
        return _column(node)
    return _value(node)


def _column(node: Any) -> Column:
    _check_parts(node)
    while isinstance(node, exp.Paren):
        node = node.this
    if type(node) in _FUNCTIONS and isinstance(node.this, exp.Column):
        return Column(_column(node.this).name, _FUNCTIONS[type(node)])
    if isinstance(node, exp.Column) and isinstance(node.this, exp.Identifier):
        return Column(".".join(part.name for part in node.parts))
    raise ValueError(_not_known(node))


def _value(node: Any) -> Value:
    _check_parts(node)
    if isinstance(node, exp.Literal):
        return str(node.this) if node.is_string else Decimal(str(node.this))
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and not node.this.is_string:
        return -Decimal(str(node.this.this))
    if isinstance(node, exp.Boolean):
        return bool(node.this)
    if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal) and node.this.is_string:
        return _time(str(node.this.this), node.args["to"])
    if isinstance(node, exp.Null):
        raise ValueError("nothing is equal to NULL; write IS NULL or IS NOT NULL")
    raise ValueError(_not_known(node))


def _time(text: str, kind: Any) -> date | datetime:
    names: dict[Any, Any] = {
        exp.DataType.Type.DATE: date.fromisoformat,
        exp.DataType.Type.TIMESTAMP: lambda text: in_utc(datetime.fromisoformat(text)),
    }
    if kind.this not in names:
        raise ValueError(f"a literal of {kind.sql()} is not known")
    try:
        found: date | datetime = names[kind.this](text)
        return found
    except ValueError as error:
        raise ValueError(f"a {kind.sql()} is written as 2026-11-20 or 2026-11-20T12:00") from error


def _check_parts(node: Any) -> None:
    for name, part in node.args.items():
        if part and name not in _PARTS:
            raise ValueError(f"{type(node).__name__.upper()} with {name} is not known")


def _not_known(node: Any) -> str:
    if isinstance(node, exp.Anonymous):
        return f"the function {node.name} is not known"
    return f"{type(node).__name__.upper()} is not known"
