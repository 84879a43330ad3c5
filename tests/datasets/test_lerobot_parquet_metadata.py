"""What tells the packages `datasets` and pandas how to read the columns."""

import json

import pytest

from nearer.datasets.lerobot.parquet_metadata import huggingface_metadata, pandas_metadata
from nearer.datasets.lerobot.schema import Feature


@pytest.mark.parametrize(
    ("feature", "described"),
    [
        (Feature(dtype="int64", shape=(1,)), {"dtype": "int64", "_type": "Value"}),
        (
            Feature(dtype="float32", shape=(7,)),
            {"feature": {"dtype": "float32", "_type": "Value"}, "length": 7, "_type": "List"},
        ),
        (
            Feature(dtype="bool", shape=(2, 3)),
            {"shape": [2, 3], "dtype": "bool", "_type": "Array2D"},
        ),
        (
            Feature(dtype="uint8", shape=(1, 2, 3, 4, 5)),
            {"shape": [1, 2, 3, 4, 5], "dtype": "uint8", "_type": "Array5D"},
        ),
        (Feature(dtype="image", shape=(4, 6, 3)), {"_type": "Image"}),
    ],
)
def test_huggingface_metadata_of_each_kind_of_feature(
    feature: Feature, described: dict[str, object]
) -> None:
    document = json.loads(huggingface_metadata({"key": feature}))
    assert document == {"info": {"features": {"key": described}}}


def test_huggingface_metadata_leaves_videos_out_and_keeps_the_order() -> None:
    number = Feature(dtype="float32", shape=(1,))
    video = Feature(dtype="video", shape=(4, 6, 3))
    document = json.loads(huggingface_metadata({"z": number, "film": video, "a": number}))
    assert list(document["info"]["features"]) == ["z", "a"]


def test_pandas_metadata_has_the_task_as_index_and_both_columns() -> None:
    document = json.loads(pandas_metadata("26.0"))
    assert document["index_columns"] == ["task"]
    assert document["creator"] == {"library": "pyarrow", "version": "26.0"}
    kinds = {column["name"]: column["pandas_type"] for column in document["columns"]}
    assert kinds == {"task_index": "int64", "task": "unicode"}
