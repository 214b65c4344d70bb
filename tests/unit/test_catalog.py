"""The stand-in understands the queries that clients send."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from compose.rs_order.catalog import Catalog, QueryError


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    for name in ("A/a.tif", "A/a_quicklook.png", "B/b.csv", "S2B_X:1/c.nc", "root.txt"):
        path = tmp_path / "products" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return Catalog(tmp_path / "products")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("providerId:A", ["a.tif", "a_quicklook.png"]),
        ("productId:(A OR B)", ["a.tif", "a_quicklook.png", "b.csv"]),
        ("*:*", ["a.tif", "a_quicklook.png", "b.csv", "c.nc", "root.txt"]),
        ("providerId:S2B_*", ["c.nc"]),
        ('providerId:"S2B_X:1"', ["c.nc"]),
        ("providerId:S2B_X\\:1", ["c.nc"]),
        ("providerId:products", ["root.txt"]),
        ("providerId:(A AND B)", []),
        ("providerId:A AND NOT providerId:A", []),
        ("title:A", []),
    ],
)
def test_a_query_finds_its_products(catalog: Catalog, query: str, names: list[str]) -> None:
    assert sorted(file.path.name for file in catalog.search([query], None)) == names


def test_queries_of_several_orders_at_once_are_not_mixed_up(catalog: Catalog) -> None:
    wanted = [("A", "a.tif"), ("B", "b.csv")] * 100

    def found(product: str) -> str:
        query = f"providerId:{product} AND NOT (providerId:none OR providerId:nothing)"
        return catalog.search([query], None)[0].path.name

    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            names = list(threads.map(found, [product for product, _ in wanted]))
    finally:
        sys.setswitchinterval(switching)
    assert names == [name for _, name in wanted]


def test_filters_choose_types_and_names(catalog: Catalog) -> None:
    filters = {"dataTypes": ["RAWDATA"], "filenameRegExp": ".*\\.tif"}
    assert [f.path.name for f in catalog.search(["*:*"], filters)] == ["a.tif"]


def test_a_query_that_is_none_is_refused(catalog: Catalog) -> None:
    with pytest.raises(QueryError):
        catalog.search(["a:("], None)
