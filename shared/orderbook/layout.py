"""Where everything lies in the kernel's arrays: offsets and sizes, shared by the kernel, its readers and books.py.

All arrays are flat and of 8-byte words, or of u32 where named so; index 0 of a pool means "none". Offsets count words,
or u32s where the name begins with O_ or L_ and says so.
"""

from __future__ import annotations

# --- meta: one word each -------------------------------------------------------------------------------------
BOOKS_USED = 0  # slots ever used
BOOK_FREE = 1  # first free slot + 1; the next one is in its KEY word
# First free order, one past the last ever used, length of the free list; then the same of levels and chunks.
ORDER_FREE, ORDERS_USED, ORDERS_FREE = 2, 3, 4
LEVEL_FREE, LEVELS_USED, LEVELS_FREE = 5, 6, 7
CHUNK_FREE, CHUNKS_USED, CHUNKS_FREE = 8, 9, 10
DIRS_USED, DIR_CLASS = (
    11,
    12,
)  # words of the directory pool in use; the largest class of block handed out so far
ROOM = 13  # records for which there is room in the pools for sure
EVENT = 14  # the last event number given out (they mark fills)
DIRTY, TOUCHED_BOOKS = 15, 16  # entries in the lists of a batch
HELD = 17  # from here to OPEN_TRADES: set to 0 when a run begins
BBO_ROWS, TRADE_ROWS, AUCTION_ROWS, EFFECT_ROWS = 18, 19, 20, 21
INTERLEAVED = 22  # trades of two events overlapped: rows are to be sorted
OPEN_TRADES = 23  # books whose event has trade rows without `end`
BATCH = 24  # number of this batch
SEED, SEED2 = 25, 26  # of the order table's hash
EXECUTED_ORDERS = 27
GRAVES = 28  # entries in the table of levels that are gone but were touched in this batch
# Where `_run` stopped, and why; records that have their book; records of the carry that go before this piece.
POSITION, REASON, SCANNED, CARRIED = 29, 30, 31, 32  # set to 0 when a run begins
EARLY = 33  # entries of the dirty list that have become rows because a snapshot began
CARRY_RECORDS = 34  # held back
HASH_SHIFT = 35  # the first bits of a tag are left by it
CHAINED = 36  # entries of the dirty list that are chained by book
OPEN_RECORDS, CARRY_MAX = 37, 38  # records of open events in all books, as `_scan` goes; their limit
DIR_FREE = 40  # + class: offset + 1 of the first free block
SOON = 80  # + record & 7: the level an A a few records on will join
ORDERS = 88  # + record & 7: the order that a record a few on names
TAGS = 128  # + record & 15: the tag in the order table of what a record a few on names
# Where each array begins, and how much there is room for; books.py keeps them true.
AT_BOOKS, AT_INDEX, AT_TABLE, AT_ORDERS, AT_FILLS, AT_LEVELS, AT_CHUNKS, AT_CHUNK_N, AT_DIRS = range(96, 105)
AT_DIRTY, AT_GRAVES, AT_SLOTS, AT_HELD, AT_TOUCHED, AT_BBO, AT_TRADES, AT_AUCTIONS, AT_EFFECTS = range(
    105, 114
)
AT_CARRY, AT_CARRY_ORDINALS, AT_CARRY_SLOTS = range(114, 117)
BOOK_CAP, INDEX_CAP, TABLE_CAP, ORDER_CAP, LEVEL_CAP, CHUNK_CAP, DIR_CAP, DIRTY_CAP, GRAVE_CAP, ROW_CAP = (
    range(117, 127)
)
HINTS = 144  # + record & 7: how many levels of its side are better than the price of a record a few on
HINT = 152  # the one of this record, at best: who uses it checks it; -1: none
META_WORDS = 160

# Why `go` stopped, and where it goes on.
DONE, POOLS_FULL, OUTPUT_FULL, DIRTY_FULL, BOOKS_FULL = range(5)
BEGIN = DONE

# --- a book: five cache lines in use, four of them hot, then its counters ------------------------------------
KEY = 0  # instrument_id << 16 | publisher_id
APPLY = 1  # the last ordinal of this batch whose records are applied; later ones are held
FLAGS = 2  # BOOK_*
OPEN = 3  # records held back
TRADES, EFFECTS = (
    4,
    5,
)  # 1 + number of the last row of this event that lacks its `end`; rows are chained through it
TOUCHED = 6  # number of the batch in which it was last put on the list
EVENT_NO = 7
SIDE = 8  # + 4 a side: bids, asks
CHUNK, LEVELS_IN, CHUNKS, DIR = (
    0,
    1,
    2,
    3,
)  # top chunk, levels in it, chunks, directory (offset << 8 | class + 1)
SIDE_WORDS = 4
BBO = 16  # as last published: bid price, size, count, ask price, size, count
LAST_PX = 22
STATE = 23  # bits below
ORDINAL, TS_EVENT, TS_RECV, RECORDS = 24, 25, 26, 27
LEVELS = 28  # + side
HEAD = 30  # instrument_id | publisher_id << 32: as rows have it
LISTED = 31  # 1 + place of its last entry in the dirty list that is chained
AUCTION = 32  # as last published: present, price, size, bid price, size, count, ask price, size, count
EXECUTED = 41  # first order of the list of executed ones
EXECUTED_COUNT = 42
FIRST_HELD = 43  # ordinal of the first record held back
INTERRUPTED = 44  # the same, of the event in the carry that a snapshot interrupted; -1
BOUND = 45  # + side: the worst key on which the overlay depends
COUNTS = 48  # + anomaly code
BOOK_WORDS = 72

MAYBE_BAD, IN_SNAPSHOT, FILLED = 1, 2, 4
BEST = 32  # << side: the best level may not be the published one any more
BEST_BIT = 5
MET, MOVED = 8, 16  # there is an overlay; something it depends on has changed since

# --- an order: 32 bytes --------------------------------------------------------------------------------------
ORDER_WORDS = 4  # id, ts_event, then as u32:
O_SIZE, O_LEVEL, O_PREV, O_NEXT = 4, 5, 6, 7  # O_LEVEL: level << 2 | aggregate << 1 | side
O_EXECUTED = 0xFFFF_FFFF  # in O_LEVEL: not in the book, taken out by policy `execute`

# --- a level: 32 bytes ---------------------------------------------------------------------------------------
LEVEL_WORDS = 4  # key (price, or ~price of an ask: the best is the largest), size, then as u32:
L_COUNT, L_HEAD, L_TAIL, L_DIRTY = 4, 5, 6, 7  # L_DIRTY: 1 + place in the dirty list

# --- chunks of a side's sorted levels ------------------------------------------------------------------------
CAP = 60  # levels in a chunk: an odd number of cache lines, so that the tops of chunks fall into all sets of a cache
ENTRY_WORDS = 2  # key, level
DIR_FIRST = 16  # chunks in the smallest directory block; class k holds DIR_FIRST << k

# --- order table: open addressing, linear probing, backward-shift deletion -----------------------------------
# A word a place: order | tag << 32, 0 if it is empty. A tag is a hash of id and slot; its first bits say where it is
# looked for first. Equal tags of equal ids are of the same slot (pools.py), and the id stands in the order.

# --- dirty list: key, owner = slot << 1 | side, level (0: gone), grave | the book's entry before << 32 --------
# (grave: place in their table + 1.) When its book enters a snapshot, an entry becomes the row to publish: key,
# -2 - owner, size, grave | count << 32.
DIRTY_WORDS = 4

# With a slot number in the list of records:
ENDS = 1 << 31  # this record ends its event
ENTERS = 1 << 30  # with this record, held back before, its book enters a snapshot
SLOT = ENTERS - 1

# --- rows of outputs (shared/records.py), in words -----------------------------------------------------------
BBO_ROW_WORDS, TRADE_ROW_WORDS, AUCTION_ROW_WORDS, EFFECT_ROW_WORDS, LEVEL_ROW_WORDS, TOUCHED_ROW_WORDS = (
    9, 7, 11, 4, 4, 4,
)  # fmt: skip
RECORD_WORDS = 7
