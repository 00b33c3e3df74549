"""The types of Avro in Arrow.

Logical types are made by Arrow from the numbers that are stored, as Python has no dates after the
year 9999.

Source: https://avro.apache.org/docs/1.12.0/specification/
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

_PRIMITIVES: Final = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
}
_COMPLEX: Final = frozenset({"record", "error", "enum", "array", "map", "fixed"})
_LOGICAL: Final = {
    ("int", "date"): pa.date32(),
    ("int", "time-millis"): pa.time32("ms"),
    ("long", "time-micros"): pa.time64("us"),
    ("long", "timestamp-millis"): pa.timestamp("ms", "UTC"),
    ("long", "timestamp-micros"): pa.timestamp("us", "UTC"),
    ("long", "timestamp-nanos"): pa.timestamp("ns", "UTC"),
    ("long", "local-timestamp-millis"): pa.timestamp("ms"),
    ("long", "local-timestamp-micros"): pa.timestamp("us"),
    ("long", "local-timestamp-nanos"): pa.timestamp("ns"),
}
_MAX_DECIMAL_DIGITS: Final = 76

Convert = Callable[[Any], Any]


@dataclass(frozen=True)
class AvroType:
    """An Avro type in Arrow, and what makes a value of it from what fastavro returns."""

    arrow: pa.DataType
    convert: Convert | None = None

    def __call__(self, value: Any) -> Any:
        return value if self.convert is None or value is None else self.convert(value)


class AvroTypes:
    """Translates Avro types; knows those that have a name, since they may be used again."""

    def __init__(self) -> None:
        self._named: dict[str, AvroType] = {}

    def of(self, schema: Any, namespace: str) -> AvroType:
        """Return the type that an Avro schema stands for."""
        if isinstance(schema, list):
            return self._union(schema, namespace)
        if isinstance(schema, str):
            if schema in _PRIMITIVES:
                return AvroType(_PRIMITIVES[schema])
            return self._named[schema if "." in schema else f"{namespace}.{schema}"]
        kind = schema["type"]
        if not isinstance(kind, str) or (kind not in _PRIMITIVES and kind not in _COMPLEX):
            return self.of(kind, namespace)
        if (known := _LOGICAL.get((kind, schema.get("logicalType", "")))) is not None:
            return AvroType(known)
        if kind == "array":
            inner = self.of(schema["items"], namespace)
            return AvroType(pa.list_(inner.arrow), lambda values: [inner(one) for one in values])
        if kind == "map":
            inner = self.of(schema["values"], namespace)
            return AvroType(
                pa.map_(pa.string(), inner.arrow),
                lambda values: [(key, inner(one)) for key, one in values.items()],
            )
        if kind in ("bytes", "fixed") and schema.get("logicalType") == "decimal":
            found = _decimal(schema)
        elif kind in _PRIMITIVES:
            found = AvroType(_PRIMITIVES[kind])
        elif kind == "fixed":
            found = AvroType(pa.binary(schema["size"]))
        elif kind == "enum":
            found = AvroType(pa.string())
        else:
            return self._record(schema, namespace)
        if "name" in schema:
            self._named[_full_name(schema, namespace)] = found
        return found

    def _record(self, schema: Mapping[str, Any], namespace: str) -> AvroType:
        name = _full_name(schema, namespace)
        self._named[name] = AvroType(pa.string(), _as_text)  # where it holds itself
        inside = name.rpartition(".")[0]
        fields = {one["name"]: self.of(one["type"], inside) for one in schema["fields"]}
        self._named[name] = found = AvroType(
            pa.struct([pa.field(key, one.arrow) for key, one in fields.items()]),
            lambda record: {key: one(record[key]) for key, one in fields.items()},
        )
        return found

    def _union(self, schemas: list[Any], namespace: str) -> AvroType:
        types = [self.of(one, namespace) for one in schemas if one != "null"]
        if len(types) == 1:
            return types[0]
        return AvroType(pa.string(), _as_text) if types else AvroType(pa.null())


def _full_name(schema: Mapping[str, Any], namespace: str) -> str:
    name = str(schema["name"])
    return name if "." in name else f"{schema.get('namespace', namespace)}.{name}"


def _decimal(schema: Mapping[str, Any]) -> AvroType:
    digits, scale = schema.get("precision", 0), schema.get("scale", 0)
    if not 0 < digits <= _MAX_DECIMAL_DIGITS:
        return AvroType(pa.binary(schema["size"]) if schema["type"] == "fixed" else pa.binary())
    kind = pa.decimal128 if digits <= 38 else pa.decimal256
    return AvroType(
        kind(digits, scale),
        lambda raw: Decimal(int.from_bytes(raw, "big", signed=True)).scaleb(-scale),
    )


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=lambda raw: bytes(raw).hex())
