/* SPDX-License-Identifier: Apache-2.0 */
/* A chained hash table by request id. A request is in the table while it waits and in the `settled` list from
 * its SETTLE until the journal forgot both.
 *
 * The file: magic u64, then per attempt: u32 payload length, u32 crc32c of the rest, u64 seq, u64 settled_seq,
 * payload as in an ATTEMPT record. It is replaced whole by rename. What the file says is read against the
 * journal's position P:
 *   settled_seq != 0 and below P   the SETTLE was delivered and forgotten: drop
 *   otherwise                      hold; when the journal still has the attempt too, its seq tells that it is the same */
#include "gatewayd/journal/hold.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "gatewayd/journal/record_priv.h"
#include "libshared/base/buf.h"
#include "libshared/base/hash.h"

#define MAGIC   0x31444c4f484a5747u /* "GWJHOLD1" */
#define ENTRY   24u
#define BUCKETS 4096u
#define PATH    4096

struct hold {
    struct held *bucket[BUCKETS];
    struct held *settled;
    size_t waiting;
    bool *has_file; /* by journal */
    size_t n_has_file;
};

struct hold *hold_new(void)
{
    struct hold *h = calloc(1, sizeof(*h));

    if (!h)
        abort();
    return h;
}

static void held_free(struct held *e)
{
    free(e->at);
    free(e);
}

void hold_saved(struct hold *h)
{
    while (h->settled) {
        struct held *e = h->settled;

        h->settled = e->next;
        held_free(e);
    }
}

void hold_free(struct hold *h)
{
    if (!h)
        return;
    hold_saved(h);
    for (size_t i = 0; i < BUCKETS; i++)
        while (h->bucket[i]) {
            struct held *e = h->bucket[i];

            h->bucket[i] = e->next;
            held_free(e);
        }
    free(h->has_file);
    free(h);
}

size_t hold_waiting(const struct hold *h)
{
    return h->waiting;
}

static struct held **slot_of(struct hold *h, const struct id *request)
{
    struct held **at = &h->bucket[hash_bytes(span_make(request->b, sizeof(request->b))) % BUCKETS];

    while (*at && memcmp((*at)->request.b, request->b, sizeof(request->b)) != 0)
        at = &(*at)->next;
    return at;
}

static void insert(struct held *e, uint64_t seq, const struct fact_attempt *a)
{
    size_t i = e->n;

    for (size_t k = 0; k < e->n; k++)
        if (e->at[k].seq == seq)
            return;
    e->at = realloc(e->at, (e->n + 1) * sizeof(*e->at));
    if (!e->at)
        abort();
    for (; i > 0 && e->at[i - 1].a.number > a->number; i--)
        e->at[i] = e->at[i - 1];
    e->at[i] = (struct held_attempt){seq, *a};
    e->n++;
}

bool hold_add(struct hold *h, unsigned journal, const struct journal_record *r)
{
    struct held **at = slot_of(h, &r->request);

    if (!*at) {
        struct held *e;

        if (h->waiting >= HOLD_MAX)
            return false;
        e = calloc(1, sizeof(*e));
        if (!e)
            abort();
        e->request = r->request;
        e->tenant = r->attempt.tenant;
        e->key = r->attempt.key;
        e->journal = journal;
        e->is_recovered = r->is_recovered;
        *at = e;
        h->waiting++;
    }
    insert(*at, r->seq, &r->attempt.a);
    return true;
}

static const struct held *settle_at(struct hold *h, struct held **at, uint64_t settled_seq)
{
    struct held *e = *at;

    *at = e->next;
    h->waiting--;
    e->settled_seq = settled_seq;
    e->next = h->settled;
    h->settled = e;
    return e;
}

const struct held *hold_settle(struct hold *h, const struct id *request, uint64_t settled_seq)
{
    struct held **at = slot_of(h, request);

    return *at ? settle_at(h, at, settled_seq) : NULL;
}

void hold_unsettled(struct hold *h, unsigned journal, hold_fn fn, void *user)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct held **at = &h->bucket[i]; *at;) {
            if ((*at)->is_recovered && (*at)->journal == journal)
                fn(user, settle_at(h, at, 1)); /* below every position: gone with the next save */
            else
                at = &(*at)->next;
        }
}

/* ---- the file ---- */

static void put64(struct buf *b, uint64_t v)
{
    v = htole64(v);
    buf_add(b, span_make(&v, sizeof(v)));
}

static void put_entry(struct buf *b, const struct held *e, const struct held_attempt *at)
{
    unsigned char payload[RECORD_PAYLOAD_MAX];
    size_t n = record_encode_attempt(payload, &e->request, e->tenant, e->key, &at->a);
    size_t start = b->len;
    uint32_t crc;

    put64(b, n);
    put64(b, at->seq);
    put64(b, e->settled_seq);
    buf_add(b, span_make(payload, n));
    if (b->len != start + ENTRY + n)
        return;
    crc = htole32(crc32c(0, b->p + start + 8, ENTRY - 8 + n));
    memcpy(b->p + start + 4, &crc, sizeof(crc));
}

static void put_all(struct buf *b, const struct held *e, unsigned journal)
{
    for (; e; e = e->next)
        for (size_t i = 0; e->journal == journal && i < e->n; i++)
            put_entry(b, e, &e->at[i]);
}

static bool *has_file(struct hold *h, unsigned journal)
{
    if (journal >= h->n_has_file) {
        h->has_file = realloc(h->has_file, journal + 1);
        if (!h->has_file)
            abort();
        memset(h->has_file + h->n_has_file, 0, journal + 1 - h->n_has_file);
        h->n_has_file = journal + 1;
    }
    return &h->has_file[journal];
}

static enum err_code replace(const char *path, const struct buf *b, struct err *err)
{
    char tmp[PATH + 8];
    size_t done = 0;
    int fd;

    (void)snprintf(tmp, sizeof(tmp), "%s.new", path);
    fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    while (fd >= 0 && done < b->len) {
        ssize_t n = write(fd, b->p + done, b->len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    if (fd < 0 || done < b->len || rename(tmp, path)) {
        (void)err_set(err, ERR_IO, "cannot write '%s': %s", path, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        return ERR_IO;
    }
    (void)close(fd);
    return ERR_OK;
}

enum err_code hold_save(struct hold *h, unsigned journal, const char *dir, struct err *err)
{
    struct buf b AUTO(buf_release) = {.max = (size_t)512 << 20};
    char path[PATH];
    enum err_code e;

    (void)snprintf(path, sizeof(path), "%s/held", dir);
    for (size_t i = 0; h->waiting && i < BUCKETS; i++)
        put_all(&b, h->bucket[i], journal);
    if (!b.len && !*has_file(h, journal))
        return ERR_OK; /* an attempt that came and went between two saves was never forgotten without its SETTLE */
    put_all(&b, h->settled, journal);
    if (!b.len) {
        *has_file(h, journal) = false;
        return unlink(path) && errno != ENOENT ? err_set(err, ERR_IO, "cannot remove '%s'", path) : ERR_OK;
    }
    {
        struct buf file AUTO(buf_release) = {.max = ((size_t)512 << 20) + 8};

        put64(&file, MAGIC);
        buf_add(&file, buf_span(&b));
        e = replace(path, &file, err);
    }
    if (!e)
        *has_file(h, journal) = true;
    return e;
}

/* The next whole entry; 0 at the end or when the rest is not sound. */
static size_t get_entry(struct span s, struct journal_record *out, uint64_t *out_settled)
{
    uint32_t n, crc;
    uint64_t seq;

    if (s.len < ENTRY)
        return 0;
    memcpy(&n, s.p, sizeof(n));
    memcpy(&crc, s.p + 4, sizeof(crc));
    memcpy(&seq, s.p + 8, sizeof(seq));
    memcpy(out_settled, s.p + 16, sizeof(*out_settled));
    n = le32toh(n);
    *out_settled = le64toh(*out_settled);
    if (n > s.len - ENTRY || le32toh(crc) != crc32c(0, s.p + 8, ENTRY - 8 + n) ||
        record_decode(JOURNAL_ATTEMPT, RECORD_VERSION, span_make(s.p + ENTRY, n), out))
        return 0;
    out->seq = le64toh(seq);
    return ENTRY + n;
}

static enum err_code read_file(const char *path, struct buf *b)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = 0;

    if (fd < 0)
        return errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
    do {
        if (buf_reserve(b, 65536))
            break;
        n = read(fd, b->p + b->len, 65536);
        if (n > 0)
            b->len += (size_t)n;
    } while (n > 0);
    (void)close(fd);
    return n < 0 ? ERR_IO : ERR_OK;
}

enum err_code hold_load(struct hold *h, unsigned journal, const char *dir, uint64_t position, struct err *err)
{
    struct buf b AUTO(buf_release) = {.max = (size_t)600 << 20};
    char path[PATH];
    struct span s;
    uint64_t magic = 0, settled;
    struct journal_record r;
    size_t step;
    enum err_code e;

    (void)snprintf(path, sizeof(path), "%s/held", dir);
    e = read_file(path, &b);
    if (e)
        return e == ERR_NOT_FOUND ? ERR_OK : err_set(err, e, "cannot read '%s'", path);
    *has_file(h, journal) = true;
    if (b.len >= sizeof(magic))
        memcpy(&magic, b.p, sizeof(magic));
    if (le64toh(magic) != MAGIC)
        return err_set(err, ERR_BAD_BODY, "'%s' is not a file of held attempts", path);
    s = span_make(b.p + sizeof(magic), b.len - sizeof(magic));
    for (; s.len && (step = get_entry(s, &r, &settled)); s.p += step, s.len -= step) {
        r.is_recovered = true;
        if (!settled || settled >= position)
            (void)hold_add(h, journal, &r);
    }
    return s.len ? err_set(err, ERR_BAD_BODY, "'%s' ends in an entry that is not sound", path) : ERR_OK;
}
