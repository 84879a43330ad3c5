"""Schema metadata of parquet files: what tells lerobot and pandas how to read the columns."""

import json
from collections.abc import Mapping
from typing import Any

from nearer.datasets.lerobot.feature import Feature


def huggingface_metadata(features: Mapping[str, Feature]) -> str:
    """Return the `huggingface` schema metadata of data files, from which `datasets` decodes.

    The cache fingerprint that `datasets` adds is left out: it is optional and says nothing.
    """
    columns = {
        key: _huggingface_feature_json(feature)
        for key, feature in features.items()
        if feature.dtype != "video"
    }
    return json.dumps({"info": {"features": columns}})


def _huggingface_feature_json(feature: Feature) -> dict[str, Any]:
    if feature.dtype == "image":
        return {"_type": "Image"}
    value = {"dtype": feature.dtype, "_type": "Value"}
    if feature.shape == (1,):
        return value
    if len(feature.shape) == 1:
        return {"feature": value, "length": feature.shape[0], "_type": "List"}
    axes = len(feature.shape)
    return {"shape": list(feature.shape), "dtype": feature.dtype, "_type": f"Array{axes}D"}


def pandas_metadata(pyarrow_version: str) -> str:
    """Return the `pandas` schema metadata of tasks.parquet: pandas then shows `task` as index."""
    encoding = {"encoding": "UTF-8"}
    document: dict[str, Any] = {
        "index_columns": ["task"],
        "column_indexes": [_pandas_column(None, "unicode", "object", encoding)],
        "columns": [
            _pandas_column("task_index", "int64", "int64", None),
            _pandas_column("task", "unicode", "object", None),
        ],
        "attributes": {},
        "creator": {"library": "pyarrow", "version": pyarrow_version},
        # The pandas whose form this is; pandas itself is not needed to write it.
        "pandas_version": "2.3.3",
    }
    return json.dumps(document)


def _pandas_column(
    name: str | None, pandas_type: str, numpy_type: str, metadata: Mapping[str, str] | None
) -> dict[str, Any]:
    return {
        "name": name,
        "field_name": name,
        "pandas_type": pandas_type,
        "numpy_type": numpy_type,
        "metadata": metadata,
    }
