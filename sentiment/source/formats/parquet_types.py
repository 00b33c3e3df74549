"""The column types of Parquet files, without what other libraries add to them."""

from __future__ import annotations

import pyarrow as pa


def storage_field(field: pa.Field) -> pa.Field:
    """Return a field with the type that Parquet stores.

    An extension type of another library becomes its storage type. A file can name any such type,
    for example that of Ray's pickled objects, and the code of the library would run on data of the
    file as soon as a row is read. Metadata that names such a type is removed as well: Arrow would
    make the type again from it in the next process. Views become plain strings or bytes, because
    Arrow cannot filter views.
    """
    metadata = {
        key: value
        for key, value in (field.metadata or {}).items()
        if not key.startswith(b"ARROW:extension:")
    }
    return pa.field(field.name, _storage_type(field.type), field.nullable, metadata or None)


def _storage_type(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if isinstance(kind, pa.ExtensionType):  # Arrow's own types, such as uuid, are not of this class
        return _storage_type(kind.storage_type)
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _storage_type(kind.value_type), kind.ordered)
    if types.is_struct(kind):
        return pa.struct([storage_field(kind.field(i)) for i in range(kind.num_fields)])
    if types.is_map(kind):
        return pa.map_(
            storage_field(kind.key_field), storage_field(kind.item_field), kind.keys_sorted
        )
    if types.is_fixed_size_list(kind):
        return pa.list_(storage_field(kind.value_field), kind.list_size)
    if types.is_list(kind):
        return pa.list_(storage_field(kind.value_field))
    if types.is_large_list(kind):
        return pa.large_list(storage_field(kind.value_field))
    is_view = types.is_list_view(kind) or types.is_large_list_view(kind)
    if is_view and storage_field(kind.value_field) != kind.value_field:
        raise pa.ArrowNotImplementedError(f"{kind} is a type that Arrow cannot convert")
    return kind
