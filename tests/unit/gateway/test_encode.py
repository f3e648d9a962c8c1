"""The column encoding of `mbo` says what the rows say."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import encode
from shared.records import EFFECT
from shared.units import UNDEF_PX
from tests.support.mbo import record, rows


def decode(columns: dict[str, Any]) -> list[tuple[Any, ...]]:
    """A reader of the column encoding, from its description in mbo.json."""
    c = columns["columns"]
    unit = round(float(columns["px_unit"]) * 1e9)
    letters = {
        "n": "none",
        "a": "added",
        "r": "reduced",
        "d": "removed",
        "m": "moved",
        "c": "cleared",
        "p": "replaced",
    }
    out, ordinal, sequence, ts, px = [], 0, 0, int(columns["ts_base"]), 0
    for i in range(len(c["size"])):
        ordinal, sequence, ts = ordinal + c["ordinal"][i], sequence + c["sequence"][i], ts + c["ts_event"][i]
        price = None
        if c["price"][i] is not None:
            px += c["price"][i]
            price = encode.px_text(px * unit)
        out.append(
            (
                ordinal,
                c["action"][i],
                c["side"][i],
                price,
                c["size"][i],
                c["order_id"][i],
                c["flags"][i],
                str(ts),
                str(ts + c["ts_recv"][i]),
                sequence,
                c["publisher_id"][i],
                letters[c["effect"][i]],
                c["size_before"][i],
                c["size_after"][i],
                columns["whys"][c["why"][i]],
            )
        )
    return out


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ACMRTFN"),
            st.sampled_from("BAN"),
            st.sampled_from([UNDEF_PX, -5, 0, 10**7, 65_400_000_000, 123456789]),
            st.integers(0, 2**32 - 1),
            st.integers(0, 2**64 - 1),
            st.integers(0, 2**62),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_columns_decode_to_exactly_the_rows(found: list[tuple[Any, ...]]) -> None:
    records = rows(*(record(a, s, 0, size, order) for a, s, _, size, order, _ in found))
    records["price"] = [px for _, _, px, _, _, _ in found]
    records["ts_event"] = [ts for *_, ts in found]
    records["ts_recv"] = records["ts_event"] + np.arange(len(found), dtype=np.uint64)
    effects = np.zeros(len(found), EFFECT)
    effects["ordinal"] = np.arange(len(found)) + 10
    effects["effect"], effects["why"] = np.arange(len(found)) % 7, np.arange(len(found)) % 5
    columns = json.loads(
        orjson.dumps(encode.mbo_columns(records, effects), option=orjson.OPT_SERIALIZE_NUMPY)
    )
    assert decode(columns) == [tuple(row) for row in encode.mbo_rows(records, effects)]
