-- Bars go by ts_recv, as Databento's OHLCV schemas and the live channel `bars` have them (before: by ts_event), and a
-- bar is of one symbol: an id that gets another one in mid-interval begins a bar of its own. All are made again from
-- the trades. The key is in the order in which bars are read.

DROP VIEW bars;
DROP TABLE bar;
CREATE TABLE bar (
    run           INTEGER NOT NULL,
    instrument_id INTEGER NOT NULL,
    interval_s    INTEGER NOT NULL,         -- 1 or 60
    ts            INTEGER NOT NULL,         -- start of the interval, by ts_recv
    publisher_id  INTEGER NOT NULL,
    since         INTEGER NOT NULL,         -- symbol.first of what the id was called, 1 before it had a name
    open          INTEGER NOT NULL,
    high          INTEGER NOT NULL,
    low           INTEGER NOT NULL,
    close         INTEGER NOT NULL,
    volume        INTEGER NOT NULL,
    trades        INTEGER NOT NULL,
    PRIMARY KEY (run, instrument_id, interval_s, ts, publisher_id, since)
) STRICT, WITHOUT ROWID;

INSERT INTO bar
SELECT run, instrument_id, interval_s, ts, publisher_id, since, (SELECT price FROM trade WHERE id = opening), high, low,
       (SELECT price FROM trade WHERE id = closing), volume, trades
FROM (
    SELECT n.run, n.instrument_id, i.interval_s, t.ts_recv - t.ts_recv % (i.interval_s * 1000000000) AS ts, t.publisher_id,
           coalesce((SELECT max(s.first) FROM symbol s WHERE s.run = n.run AND s.instrument_id = n.instrument_id
                     AND s.first <= t.id & 1099511627775), 1) AS since,
           min(t.id) AS opening, max(t.price) AS high, min(t.price) AS low, max(t.id) AS closing,
           sum(t.size) AS volume, count(*) AS trades
    FROM series n JOIN trade t ON t.id BETWEEN n.series << 40 AND (n.series << 40) + 1099511627775
    JOIN (SELECT 1 AS interval_s UNION ALL SELECT 60) i
    WHERE t.price < 9223372036854775807 AND t.ts_recv < 9223372036854775807
    GROUP BY 1, 2, 3, 4, 5, 6
);

CREATE VIEW bars AS
SELECT b.run, b.instrument_id, s.symbol, b.publisher_id, b.interval_s, b.ts, b.open / 1e9 AS open, b.high / 1e9 AS high,
       b.low / 1e9 AS low, b.close / 1e9 AS close, b.volume, b.trades
FROM bar b LEFT JOIN symbol s ON s.run = b.run AND s.instrument_id = b.instrument_id AND s.first = b.since;
