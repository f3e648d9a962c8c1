-- One file a feed. Times are ns since the epoch, prices 1e-9, INTEGER; 9223372036854775807 = undefined.
-- Ordinals count in a shard's run; see README.md beside services/persist for the words.

-- One row a recorded session. `session` is the broker's number, `run` ours: they differ once a broker lost its data.
CREATE TABLE run (
    run        INTEGER PRIMARY KEY,
    session    INTEGER NOT NULL,
    shards     INTEGER NOT NULL,
    dataset    TEXT    NOT NULL,
    policy     TEXT    NOT NULL,
    identity   TEXT    NOT NULL,
    spec       TEXT    NOT NULL,            -- JSON: what the source says of itself
    began      INTEGER NOT NULL,            -- `ts` of its begin control
    ended      INTEGER NOT NULL DEFAULT 0   -- shards that have their end control
) STRICT;

-- The committed position of every shard: moved in the transaction that stores what it covers.
CREATE TABLE offset (
    run      INTEGER NOT NULL,
    shard    INTEGER NOT NULL,
    ordinal  INTEGER NOT NULL,
    recv_run INTEGER NOT NULL,              -- running maximum of ts_recv up to there
    bbo_done INTEGER NOT NULL,              -- BBO rows up to this ordinal lie in sealed blocks
    floor    INTEGER NOT NULL DEFAULT 0,    -- retention has removed everything up to this ordinal
    saved_at INTEGER NOT NULL,              -- wall clock
    PRIMARY KEY (run, shard)
) STRICT, WITHOUT ROWID;

-- Sealed blocks of MBO records (shared/blocks.py), contiguous in a shard but for control entries.
CREATE TABLE block (
    id         INTEGER PRIMARY KEY,
    run        INTEGER NOT NULL,
    shard      INTEGER NOT NULL,
    seq        INTEGER NOT NULL,            -- 0, 1, 2 … in its shard's run
    first      INTEGER NOT NULL,
    last       INTEGER NOT NULL,
    records    INTEGER NOT NULL,
    recv_min   INTEGER NOT NULL,
    recv_max   INTEGER NOT NULL,
    event_min  INTEGER NOT NULL,
    event_max  INTEGER NOT NULL,
    recv_run   INTEGER NOT NULL,            -- running maximum of ts_recv at its end: never falls in a run
    bytes      INTEGER NOT NULL,
    body       BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX block_by_ordinal ON block (run, shard, last, first, seq, recv_min, recv_max, event_min, event_max, recv_run);
CREATE INDEX block_by_time ON block (run, shard, recv_run);

CREATE TABLE bbo_block (
    id       INTEGER PRIMARY KEY,
    run      INTEGER NOT NULL,
    shard    INTEGER NOT NULL,
    first    INTEGER NOT NULL,              -- speaks for the ordinals first … last
    last     INTEGER NOT NULL,
    rows     INTEGER NOT NULL,
    recv_min INTEGER NOT NULL,
    recv_max INTEGER NOT NULL,
    bytes    INTEGER NOT NULL,
    body     BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX bbo_block_by_ordinal ON bbo_block (run, shard, last, first, recv_min, recv_max);

-- What is stored but not yet enough for a block: raw rows, one piece a commit, contiguous ordinals from `first`.
CREATE TABLE tail (
    run   INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    kind  INTEGER NOT NULL,                 -- 0 MBO records, 1 BBO rows
    first INTEGER NOT NULL,
    last  INTEGER NOT NULL,
    body  BLOB    NOT NULL,
    PRIMARY KEY (run, shard, kind, first)
) STRICT;

-- Which blocks hold an instrument: bit k of row `epoch` is block seq epoch * 63 + k. The newest epoch of a shard is
-- written when it is full; until then its blocks are looked at one by one.
CREATE TABLE presence (
    run           INTEGER NOT NULL,
    shard         INTEGER NOT NULL,
    instrument_id INTEGER NOT NULL,
    epoch         INTEGER NOT NULL,
    bits          INTEGER NOT NULL,
    PRIMARY KEY (run, shard, instrument_id, epoch)
) STRICT, WITHOUT ROWID;

-- Control entries, each stored and replayed like a record. `n` > 1 only for gaps that persist itself found.
CREATE TABLE control (
    run           INTEGER NOT NULL,
    shard         INTEGER NOT NULL,
    ordinal       INTEGER NOT NULL,         -- its last
    n             INTEGER NOT NULL,
    type          TEXT    NOT NULL,
    instrument_id INTEGER,
    body          TEXT    NOT NULL,         -- JSON of the control map
    PRIMARY KEY (run, shard, ordinal)
) STRICT, WITHOUT ROWID;

-- A symbol is an interval of ordinals of an instrument id.
CREATE TABLE symbol (
    run           INTEGER NOT NULL,
    shard         INTEGER NOT NULL,
    instrument_id INTEGER NOT NULL,
    first         INTEGER NOT NULL,
    last          INTEGER,                  -- NULL: still so
    symbol        TEXT    NOT NULL,
    PRIMARY KEY (run, instrument_id, first)
) STRICT, WITHOUT ROWID;
CREATE INDEX symbol_by_name ON symbol (symbol, run);

CREATE TABLE instrument (
    run            INTEGER NOT NULL,
    instrument_id  INTEGER NOT NULL,
    shard          INTEGER NOT NULL,
    symbol         TEXT,                    -- the newest
    tick_px        INTEGER,
    multiplier     TEXT,
    currency       TEXT,
    expiration     INTEGER,
    display_factor TEXT,
    PRIMARY KEY (run, instrument_id)
) STRICT, WITHOUT ROWID;

-- What was seen of one book: (publisher, instrument).
CREATE TABLE book (
    run           INTEGER NOT NULL,
    instrument_id INTEGER NOT NULL,
    publisher_id  INTEGER NOT NULL,
    shard         INTEGER NOT NULL,
    records       INTEGER NOT NULL,
    trades        INTEGER NOT NULL,
    first_ts      INTEGER NOT NULL,         -- ts_recv
    last_ts       INTEGER NOT NULL,
    PRIMARY KEY (run, instrument_id, publisher_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE trade (
    run           INTEGER NOT NULL,
    instrument_id INTEGER NOT NULL,
    ordinal       INTEGER NOT NULL,
    "end"         INTEGER NOT NULL,         -- ordinal of the record that ended its event
    ts_event      INTEGER NOT NULL,
    ts_recv       INTEGER NOT NULL,
    price         INTEGER NOT NULL,
    size          INTEGER NOT NULL,
    sequence      INTEGER NOT NULL,
    publisher_id  INTEGER NOT NULL,
    side          INTEGER NOT NULL,         -- of the aggressor: 66 B, 65 A, 78 N
    flags         INTEGER NOT NULL,
    PRIMARY KEY (run, instrument_id, ordinal)
) STRICT, WITHOUT ROWID;

CREATE TABLE bar (
    run           INTEGER NOT NULL,
    instrument_id INTEGER NOT NULL,
    publisher_id  INTEGER NOT NULL,
    interval_s    INTEGER NOT NULL,         -- 1 or 60
    ts            INTEGER NOT NULL,         -- start of the interval, by ts_event
    open          INTEGER NOT NULL,
    high          INTEGER NOT NULL,
    low           INTEGER NOT NULL,
    close         INTEGER NOT NULL,
    volume        INTEGER NOT NULL,
    trades        INTEGER NOT NULL,
    PRIMARY KEY (run, instrument_id, publisher_id, interval_s, ts)
) STRICT, WITHOUT ROWID;

-- Records and trades by minute of ts_recv: timelines and calendars.
CREATE TABLE activity (
    run     INTEGER NOT NULL,
    minute  INTEGER NOT NULL,               -- minutes since the epoch
    shard   INTEGER NOT NULL,
    records INTEGER NOT NULL,
    trades  INTEGER NOT NULL,
    PRIMARY KEY (run, minute, shard)
) STRICT, WITHOUT ROWID;

-- ShardState images, zstd: where the time machine and recovery start.
CREATE TABLE image (
    run     INTEGER NOT NULL,
    shard   INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    recv_run INTEGER NOT NULL,
    body    BLOB    NOT NULL,
    PRIMARY KEY (run, shard, ordinal)
) STRICT;

-- What people read with plain sqlite3. Prices are decimal numbers here (REAL): exact integers are in the tables.
CREATE VIEW trades AS
SELECT t.run, t.instrument_id, s.symbol, t.ordinal, t.ts_event, t.ts_recv,
       nullif(t.price, 9223372036854775807) / 1e9 AS price, t.size, char(t.side) AS side, t.flags, t.sequence, t.publisher_id
FROM trade t LEFT JOIN symbol s
  ON s.run = t.run AND s.instrument_id = t.instrument_id AND t.ordinal >= s.first AND (s.last IS NULL OR t.ordinal <= s.last);

CREATE VIEW bars AS
SELECT b.run, b.instrument_id, i.symbol, b.publisher_id, b.interval_s, b.ts, b.open / 1e9 AS open, b.high / 1e9 AS high,
       b.low / 1e9 AS low, b.close / 1e9 AS close, b.volume, b.trades
FROM bar b LEFT JOIN instrument i ON i.run = b.run AND i.instrument_id = b.instrument_id;

CREATE VIEW instruments AS
SELECT b.run, r.session, r.dataset, b.instrument_id, i.symbol, b.shard, group_concat(b.publisher_id) AS publishers,
       i.tick_px / 1e9 AS tick, i.multiplier, i.currency, i.expiration, i.display_factor, sum(b.records) AS records,
       sum(b.trades) AS trades, min(b.first_ts) AS first_ts, max(b.last_ts) AS last_ts
FROM book b JOIN run r ON r.run = b.run LEFT JOIN instrument i ON i.run = b.run AND i.instrument_id = b.instrument_id
GROUP BY b.run, b.instrument_id;
