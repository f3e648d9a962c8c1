from services.bench.row_store import records_per_s
from tests.support.mbo import random_rows


def test_any_records_can_be_stored_a_row_each() -> None:
    assert records_per_s(random_rows(500)) > 0
