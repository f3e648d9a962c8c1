// An order book as one would write it in C++ for speed alone, for `mbo bench engine` to compare with: one hash table,
// sorted vectors of levels with the best at the end, linked queues, a BBO row at every event end at which it changed.
// It has no anomaly counters, no carry of open events, no snapshots, trades, levels out or images.
// bench_rivals.py compiles it where there is a g++.
#include <cstdint>
#include <cstring>
#include <unordered_map>
#include <vector>

namespace {
constexpr int64_t UNDEF = INT64_MAX;
constexpr uint64_t MIX = 0x9E3779B97F4A7C15ull;

struct Record {  // DBN MboMsg
    uint8_t length, rtype;
    uint16_t publisher;
    uint32_t instrument;
    uint64_t ts_event, id;
    int64_t price;
    uint32_t size;
    uint8_t flags, channel;
    char action, side;
    uint64_t ts_recv;
    int32_t delta;
    uint32_t sequence;
};
static_assert(sizeof(Record) == 56, "DBN's layout");

struct Order {
    uint64_t id;
    int64_t key;  // price, or ~price of an ask: the best level has the largest
    uint32_t size, prev, next, side;
};
struct Level {
    int64_t key, size;
    uint32_t count, head, tail;
};
struct Entry {
    uint64_t id;
    uint32_t book, order;  // order 0: free
};
struct Book {
    uint32_t slot;
    std::vector<Level> sides[2];
    int64_t best[6] = {UNDEF, 0, 0, UNDEF, 0, 0};
};

struct Engine {
    std::vector<Order> orders{1};
    std::vector<Entry> table = std::vector<Entry>(16384);
    std::vector<Book*> books;
    std::unordered_map<uint64_t, Book*> index;
    uint32_t free_order = 0;
    size_t live = 0;

    ~Engine() { for (Book* book : books) delete book; }
    size_t mask() const { return table.size() - 1; }
    size_t home(uint32_t book, uint64_t id) const {
        uint64_t x = (id + book * 0xD6E8FEB86659FD93ull) * MIX;
        return (x ^ (x >> 32)) & mask();
    }
    size_t find(uint32_t book, uint64_t id) const {
        size_t h = home(book, id);
        while (table[h].order && (table[h].id != id || table[h].book != book)) h = (h + 1) & mask();
        return h;
    }
    void forget(size_t h) {
        for (size_t j = h;;) {
            j = (j + 1) & mask();
            if (!table[j].order) break;
            if (((j - home(table[j].book, table[j].id)) & mask()) >= ((j - h) & mask())) table[h] = table[j], h = j;
        }
        table[h].order = 0;
        live--;
    }
    void grow() {
        std::vector<Entry> old(table.size() * 2);
        old.swap(table);
        for (const Entry& e : old)
            if (e.order) table[find(e.book, e.id)] = e;
    }
    static size_t place(const std::vector<Level>& side, int64_t key) {  // levels with a key <= key
        size_t n = side.size(), stop = n > 8 ? n - 8 : 0;
        while (n > stop && side[n - 1].key > key) n--;
        if (n == stop && n > 0 && side[n - 1].key > key) {
            size_t low = 0;
            while (low < n) {
                size_t middle = (low + n) / 2;
                if (side[middle].key > key) n = middle; else low = middle + 1;
            }
        }
        return n;
    }
    void add(Book& book, size_t h, const Record& r, uint32_t which) {
        uint32_t i = free_order;
        if (i) free_order = orders[i].next;
        else { i = orders.size(); orders.emplace_back(); }
        table[h] = {r.id, book.slot, i};
        live++;
        link(book, i, r, which);
        if (live * 2 > table.size()) grow();
    }
    void link(Book& book, uint32_t i, const Record& r, uint32_t which) {
        auto& side = book.sides[which];
        int64_t key = which ? ~r.price : r.price;
        size_t n = place(side, key);
        if (n == 0 || side[n - 1].key != key) { side.insert(side.begin() + n, Level{key, 0, 0, 0, 0}); n++; }
        Level& level = side[n - 1];
        orders[i] = {r.id, key, r.size, level.tail, 0, which};
        if (level.tail) orders[level.tail].next = i; else level.head = i;
        level.tail = i;
        level.size += r.size;
        level.count++;
    }
    void unlink(Book& book, uint32_t i) {
        const Order& o = orders[i];
        auto& side = book.sides[o.side];
        size_t n = place(side, o.key);
        Level& level = side[n - 1];
        if (o.prev) orders[o.prev].next = o.next; else level.head = o.next;
        if (o.next) orders[o.next].prev = o.prev; else level.tail = o.prev;
        level.size -= o.size;
        if (--level.count == 0) side.erase(side.begin() + (n - 1));
    }
    void resize(Book& book, uint32_t i, uint32_t size) {
        Order& o = orders[i];
        auto& side = book.sides[o.side];
        side[place(side, o.key) - 1].size -= o.size - size;
        o.size = size;
    }
    void drop(uint32_t i) { orders[i].next = free_order; free_order = i; }
    void clear(Book& book) {
        for (auto& side : book.sides) {
            for (const Level& level : side)
                for (uint32_t i = level.head, next; i; i = next) {
                    next = orders[i].next;
                    forget(find(book.slot, orders[i].id));
                    drop(i);
                }
            side.clear();
        }
    }
};

void best(const std::vector<Level>& side, int64_t flip, int64_t* out) {
    if (side.empty()) { out[0] = UNDEF; out[1] = out[2] = 0; return; }
    out[0] = side.back().key ^ flip;
    out[1] = side.back().size;
    out[2] = side.back().count;
}
}  // namespace

extern "C" Engine* book_new() { return new Engine; }
extern "C" void book_free(Engine* engine) { delete engine; }

// Returns the number of rows (six int64 each) put into `out`, which has room for one a record.
extern "C" int64_t book_play(Engine* engine, const Record* records, int64_t n, int64_t* out) {
    Engine& e = *engine;
    int64_t rows = 0;
    uint64_t last_key = ~0ull;
    Book* book = nullptr;
    for (int64_t k = 0; k < n; k++) {
        const Record& r = records[k];
        uint64_t key = uint64_t(r.instrument) << 16 | r.publisher;
        if (key != last_key) {
            Book*& found = e.index[key];
            if (!found) { found = new Book; found->slot = e.books.size(); e.books.push_back(found); }
            book = found;
            last_key = key;
        }
        uint32_t which = r.side == 'B' ? 0 : r.side == 'A' ? 1 : 2;
        if (e.table.size() > 32768 && k + 12 < n) {  // worth it on deep books only
            __builtin_prefetch(&e.table[e.home(book->slot, records[k + 12].id)]);
            __builtin_prefetch(&e.orders[e.table[e.home(book->slot, records[k + 6].id)].order]);
        }
        switch (r.action) {
        case 'A':
            if (which < 2 && r.price != UNDEF && r.size) {
                size_t h = e.find(book->slot, r.id);
                if (uint32_t i = e.table[h].order) { e.unlink(*book, i); e.link(*book, i, r, which); }
                else e.add(*book, h, r, which);
            }
            break;
        case 'C': {
            size_t h = e.find(book->slot, r.id);
            uint32_t i = e.table[h].order;
            if (!i || !r.size) break;
            if (r.size < e.orders[i].size) { e.resize(*book, i, e.orders[i].size - r.size); break; }
            e.unlink(*book, i);
            e.forget(h);
            e.drop(i);
            break;
        }
        case 'M': {
            if (which == 2 || r.price == UNDEF) break;
            size_t h = e.find(book->slot, r.id);
            uint32_t i = e.table[h].order;
            if (!i) { if (r.size) e.add(*book, h, r, which); break; }
            const Order& o = e.orders[i];
            if (!r.size) { e.unlink(*book, i); e.forget(h); e.drop(i); }
            else if (o.side != which || o.key != (which ? ~r.price : r.price) || r.size > o.size) {
                e.unlink(*book, i);
                e.link(*book, i, r, which);
            } else if (r.size < o.size) e.resize(*book, i, r.size);
            break;
        }
        case 'R': e.clear(*book); break;
        default: break;
        }
        if (r.flags & 128) {
            int64_t now[6];
            best(book->sides[0], 0, now);
            best(book->sides[1], -1, now + 3);
            if (std::memcmp(now, book->best, sizeof now)) {
                std::memcpy(book->best, now, sizeof now);
                std::memcpy(out + 6 * rows++, now, sizeof now);
            }
        }
    }
    return rows;
}
