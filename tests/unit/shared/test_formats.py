"""Rows as text: whatever bytes a record has, a line is a row."""

from __future__ import annotations

import csv
import io

from shared.dbn import Metadata
from shared.export.formats import columns, make_encoder
from shared.records import MBO
from tests.support.mbo import random_rows


def test_csv_keeps_its_columns_with_letters_that_no_venue_sends() -> None:
    rows = random_rows(4)
    rows["action"] = [ord(letter) for letter in ',"\n\r']
    encoder = make_encoder("csv", MBO, Metadata(dataset="TEST", schema="mbo", stype_in=None))
    text = (encoder.head() + encoder.encode(rows, 'A,"B"')).decode()
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(found[0]) == columns(MBO)
    assert [(row["action"], row["symbol"]) for row in found] == [(letter, 'A,"B"') for letter in ',"\n\r']
