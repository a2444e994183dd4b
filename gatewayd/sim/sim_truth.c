/* SPDX-License-Identifier: Apache-2.0 */
/* Records live in blocks that are reused in a ring; sums live in rows found by an open-addressing table.
 * Strings are numbered once, so a record has a fixed size. */
#include "gatewayd/sim/sim_truth.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct names {
    char **all;
    uint32_t n, cap;
    uint32_t *slots; /* index + 1 */
    uint32_t n_slots;
};

struct row { /* sums of one (profile, key, model, operation) */
    uint32_t profile, key, model;
    const char *operation;
    uint64_t posts, answered, client_gone, refused, streams, bytes_sent;
    uint64_t input, cached, cache_write, output, reasoning, images, searches;
    uint64_t faults[SIM_FAULT_COUNT]; /* that were played to their end */
};

struct body {
    uint64_t seq;
    char *bytes; /* head, then body */
    size_t head_len, body_len;
};

struct sim_truth {
    struct names names;
    struct sim_record *blocks[SIM_RECORD_BLOCKS];
    uint64_t last_seq, epoch, n_open;
    struct row *rows;
    uint32_t n_rows, cap_rows;
    uint32_t *row_slots;
    uint32_t n_row_slots;
    int fd;
    struct buf pending;
    bool keep_bodies;
    size_t body_bytes, body_bytes_max;
    struct body *bodies; /* ring of SIM_BODIES_MAX */
    uint64_t body_head, body_tail;
};

static void *must(void *p)
{
    if (!p)
        abort(); /* a witness that lost something is worse than none */
    return p;
}

struct sim_truth *sim_truth_new(const char *log_path_or_null, struct err *err)
{
    struct sim_truth *t = must(calloc(1, sizeof(*t)));

    t->fd = -1;
    t->body_bytes_max = SIM_BODIES_BYTES;
    if (log_path_or_null) {
        t->fd = open(log_path_or_null, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (t->fd < 0) {
            (void)err_set(err, ERR_IO, "truth log '%s': %s", log_path_or_null, strerror(errno));
            free(t);
            return NULL;
        }
    }
    return t;
}

static void forget_bodies(struct sim_truth *t, size_t down_to_bytes, uint64_t down_to_count)
{
    while (t->body_head > t->body_tail &&
           (t->body_bytes > down_to_bytes || t->body_head - t->body_tail > down_to_count)) {
        struct body *b = &t->bodies[t->body_tail++ % SIM_BODIES_MAX];

        t->body_bytes -= b->head_len + b->body_len;
        free(b->bytes);
        *b = (struct body){0};
    }
}

static void forget(struct sim_truth *t)
{
    for (uint32_t i = 0; i < t->names.n; i++)
        free(t->names.all[i]);
    free(t->names.all);
    free(t->names.slots);
    t->names = (struct names){0};
    free(t->rows);
    free(t->row_slots);
    t->rows = NULL;
    t->row_slots = NULL;
    t->n_rows = t->cap_rows = t->n_row_slots = 0;
    for (unsigned i = 0; i < SIM_RECORD_BLOCKS; i++) {
        free(t->blocks[i]);
        t->blocks[i] = NULL;
    }
    if (t->bodies)
        forget_bodies(t, 0, 0);
    t->last_seq = t->n_open = 0;
}

void sim_truth_reset(struct sim_truth *t)
{
    forget(t);
    t->epoch++;
}

void sim_truth_free(struct sim_truth *t)
{
    if (!t)
        return;
    sim_truth_flush(t);
    forget(t);
    free(t->bodies);
    buf_release(&t->pending);
    if (t->fd >= 0)
        (void)close(t->fd);
    free(t);
}

uint64_t sim_truth_epoch(const struct sim_truth *t)
{
    return t->epoch;
}

/* ---- names ---- */

static void grow_names(struct names *ns)
{
    ns->cap = ns->cap ? ns->cap * 2 : 64;
    ns->all = must(realloc(ns->all, ns->cap * sizeof(*ns->all)));
    free(ns->slots);
    ns->n_slots = ns->cap * 2;
    ns->slots = must(calloc(ns->n_slots, sizeof(*ns->slots)));
    for (uint32_t i = 0; i < ns->n; i++) {
        uint32_t at = (uint32_t)hash_bytes(span_of(ns->all[i])) & (ns->n_slots - 1);

        while (ns->slots[at])
            at = (at + 1) & (ns->n_slots - 1);
        ns->slots[at] = i + 1;
    }
}

uint32_t sim_truth_name(struct sim_truth *t, struct span s)
{
    struct names *ns = &t->names;
    uint32_t at;

    if (ns->n == ns->cap)
        grow_names(ns);
    at = (uint32_t)hash_bytes(s) & (ns->n_slots - 1);
    for (; ns->slots[at]; at = (at + 1) & (ns->n_slots - 1))
        if (span_is(s, ns->all[ns->slots[at] - 1]))
            return ns->slots[at] - 1;
    ns->all[ns->n] = must(strndup(s.p ? s.p : "", s.len));
    ns->slots[at] = ++ns->n;
    return ns->n - 1;
}

/* ---- records ---- */

static struct sim_record *record_slot(struct sim_truth *t, uint64_t seq)
{
    struct sim_record **block = &t->blocks[seq / SIM_RECORDS_PER_BLOCK % SIM_RECORD_BLOCKS];

    if (!*block)
        *block = must(calloc(SIM_RECORDS_PER_BLOCK, sizeof(**block)));
    return &(*block)[seq % SIM_RECORDS_PER_BLOCK];
}

struct sim_record *sim_truth_open(struct sim_truth *t)
{
    struct sim_record *r = record_slot(t, ++t->last_seq);

    *r = (struct sim_record){.seq = t->last_seq};
    t->n_open++;
    return r;
}

struct sim_record *sim_truth_at(struct sim_truth *t, uint64_t seq, uint64_t epoch)
{
    struct sim_record *r;

    if (!seq || seq > t->last_seq || epoch != t->epoch)
        return NULL;
    r = record_slot(t, seq);
    return r->seq == seq ? r : NULL;
}

static uint64_t row_hash(const struct row *r)
{
    const uint64_t key[] = {r->profile, r->key, r->model, (uint64_t)(uintptr_t)r->operation};

    return hash_bytes(span_make(key, sizeof(key)));
}

static void grow_rows(struct sim_truth *t)
{
    t->cap_rows = t->cap_rows ? t->cap_rows * 2 : 32;
    t->rows = must(realloc(t->rows, t->cap_rows * sizeof(*t->rows)));
    free(t->row_slots);
    t->n_row_slots = t->cap_rows * 2;
    t->row_slots = must(calloc(t->n_row_slots, sizeof(*t->row_slots)));
    for (uint32_t i = 0; i < t->n_rows; i++) {
        uint32_t at = (uint32_t)row_hash(&t->rows[i]) & (t->n_row_slots - 1);

        while (t->row_slots[at])
            at = (at + 1) & (t->n_row_slots - 1);
        t->row_slots[at] = i + 1;
    }
}

static struct row *row_of(struct sim_truth *t, const struct sim_record *r)
{
    const struct row want = {
        .profile = r->profile, .key = r->key, .model = r->model, .operation = r->operation};
    uint32_t at;

    if (t->n_rows == t->cap_rows)
        grow_rows(t);
    at = (uint32_t)row_hash(&want) & (t->n_row_slots - 1);
    for (; t->row_slots[at]; at = (at + 1) & (t->n_row_slots - 1)) {
        struct row *row = &t->rows[t->row_slots[at] - 1];

        if (row->profile == want.profile && row->key == want.key && row->model == want.model &&
            row->operation == want.operation)
            return row;
    }
    t->rows[t->n_rows] = want;
    t->row_slots[at] = ++t->n_rows;
    return &t->rows[t->n_rows - 1];
}

static void add_to_row(struct row *row, const struct sim_record *r)
{
    row->posts++;
    row->streams += r->is_stream;
    row->answered += r->end == SIM_END_ANSWERED;
    row->client_gone += r->end == SIM_END_CLIENT_GONE;
    row->refused += r->end == SIM_END_REFUSED;
    if (r->end == SIM_END_FAULT)
        row->faults[r->fault]++;
    row->bytes_sent += r->bytes_sent;
    row->input += r->bill.input;
    row->cached += r->bill.cached;
    row->cache_write += r->bill.cache_write;
    row->output += r->bill.output;
    row->reasoning += r->bill.reasoning;
    row->images += r->bill.images;
    row->searches += r->bill.searches;
}

static const char *name_of(const struct sim_truth *t, uint32_t n)
{
    return t->names.all[n];
}

static const char *end_name(const struct sim_record *r, char number[8])
{
    switch ((enum sim_end)r->end) {
    case SIM_END_OPEN:
        return "open";
    case SIM_END_ANSWERED:
        return "answered";
    case SIM_END_CLIENT_GONE:
        return "client_gone";
    case SIM_END_STOPPED:
        return "stopped";
    case SIM_END_REFUSED:
        (void)snprintf(number, 8, "%u", r->status);
        return number;
    default:
        return sim_fault_name((enum sim_fault)r->fault);
    }
}

static void add_line(const struct sim_truth *t, const struct sim_record *r, struct buf *out)
{
    char sha[2 * SHA256_BYTES + 1], number[8];

    hex_encode(r->body_sha256, SHA256_BYTES, sha);
    buf_addf(out,
             "{\"seq\":%llu,\"at_us\":%lld,\"first_us\":%lld,\"end_us\":%lld,\"profile\":\"%s\",\"key\":",
             (unsigned long long)r->seq, (long long)r->at_us, (long long)r->first_us, (long long)r->end_us,
             name_of(t, r->profile));
    buf_add_json(out, span_of(name_of(t, r->key)));
    buf_addz(out, ",\"model\":");
    buf_add_json(out, span_of(name_of(t, r->model)));
    buf_addf(out, ",\"operation\":\"%s\",\"stream\":%s,\"fault\":", r->operation,
             r->is_stream ? "true" : "false");
    if (r->fault)
        buf_addf(out, "\"%s\"", sim_fault_name((enum sim_fault)r->fault));
    else
        buf_addz(out, "null");
    buf_addf(
        out,
        ",\"ended\":\"%s\",\"status\":%u,\"prompt_tokens\":%u,\"cached_tokens\":%u,\"cache_write_tokens\":%u,"
        "\"completion_tokens\":%u,\"reasoning_tokens\":%u,\"images\":%u,\"searches\":%u",
        end_name(r, number), r->status, r->bill.input, r->bill.cached, r->bill.cache_write, r->bill.output,
        r->bill.reasoning, r->bill.images, r->bill.searches);
    buf_addf(out,
             ",\"bytes_sent\":%llu,\"connection\":%llu,\"request_id\":", (unsigned long long)r->bytes_sent,
             (unsigned long long)r->connection);
    if (r->request_id[0])
        buf_add_json(out, span_of(r->request_id));
    else
        buf_addz(out, "null");
    buf_addf(out, ",\"body_bytes\":%llu,\"body_sha256\":\"%s\"}\n", (unsigned long long)r->body_len, sha);
}

void sim_truth_close(struct sim_truth *t, struct sim_record *r)
{
    add_to_row(row_of(t, r), r);
    t->n_open--;
    if (t->fd < 0)
        return;
    add_line(t, r, &t->pending);
    if (t->pending.len > 65536)
        sim_truth_flush(t);
}

void sim_truth_flush(struct sim_truth *t)
{
    size_t at = 0;

    while (at < t->pending.len) {
        ssize_t n = write(t->fd, t->pending.p + at, t->pending.len - at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            abort(); /* a full disk must not look like "nothing happened" */
        at += (size_t)n;
    }
    buf_clear(&t->pending);
}

void sim_truth_lines(struct sim_truth *t, uint64_t after, uint64_t limit, struct buf *out)
{
    uint64_t seq = after + 1;
    const uint64_t kept = (uint64_t)SIM_RECORDS_PER_BLOCK * (SIM_RECORD_BLOCKS - 1);

    if (t->last_seq > kept && seq < t->last_seq - kept)
        seq = t->last_seq - kept;
    for (; seq && seq <= t->last_seq && limit; seq++, limit--) {
        const struct sim_record *r = sim_truth_at(t, seq, t->epoch);

        if (r)
            add_line(t, r, out);
    }
}

/* ---- bodies ---- */

void sim_truth_keep_bodies(struct sim_truth *t, bool keep, size_t max_bytes)
{
    t->keep_bodies = keep;
    t->body_bytes_max = max_bytes;
    if (keep && !t->bodies)
        t->bodies = must(calloc(SIM_BODIES_MAX, sizeof(*t->bodies)));
    if (t->bodies)
        forget_bodies(t, keep ? max_bytes : 0, keep ? SIM_BODIES_MAX : 0);
}

void sim_truth_add_body(struct sim_truth *t, uint64_t seq, struct span head, struct span body)
{
    struct body *b;

    if (!t->keep_bodies || head.len + body.len > t->body_bytes_max)
        return;
    forget_bodies(t, t->body_bytes_max - head.len - body.len, SIM_BODIES_MAX - 1);
    b = &t->bodies[t->body_head++ % SIM_BODIES_MAX];
    *b = (struct body){seq, must(malloc(head.len + body.len + 1)), head.len, body.len};
    memcpy(b->bytes, head.p, head.len);
    if (body.len)
        memcpy(b->bytes + head.len, body.p, body.len);
    t->body_bytes += head.len + body.len;
}

bool sim_truth_body(const struct sim_truth *t, uint64_t seq, struct span *out_head, struct span *out_body)
{
    uint64_t lo = t->body_tail, hi = t->body_head;

    while (lo < hi) { /* kept in order of seq, with gaps */
        uint64_t mid = lo + (hi - lo) / 2;
        const struct body *b = &t->bodies[mid % SIM_BODIES_MAX];

        if (b->seq == seq) {
            *out_head = span_make(b->bytes, b->head_len);
            *out_body = span_make(b->bytes + b->head_len, b->body_len);
            return true;
        }
        if (b->seq < seq)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

/* ---- sums ---- */

static void add_row_json(const struct sim_truth *t, const struct row *r, struct buf *out)
{
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {{"posts", r->posts},      {"answered", r->answered},   {"client_gone", r->client_gone},
                  {"refused", r->refused},  {"streams", r->streams},     {"bytes_sent", r->bytes_sent},
                  {"input", r->input},      {"cached", r->cached},       {"cache_write", r->cache_write},
                  {"output", r->output},    {"reasoning", r->reasoning}, {"images", r->images},
                  {"searches", r->searches}};
    const char *comma = "";

    buf_addf(out, "{\"profile\":\"%s\",\"operation\":\"%s\",\"key\":", name_of(t, r->profile), r->operation);
    buf_add_json(out, span_of(name_of(t, r->key)));
    buf_addz(out, ",\"model\":");
    buf_add_json(out, span_of(name_of(t, r->model)));
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        buf_addf(out, ",\"%s\":%llu", counts[i].name, (unsigned long long)counts[i].value);
    buf_addz(out, ",\"faults\":{");
    for (unsigned f = 1; f < SIM_FAULT_COUNT; f++)
        if (r->faults[f]) {
            buf_addf(out, "%s\"%s\":%llu", comma, sim_fault_name((enum sim_fault)f),
                     (unsigned long long)r->faults[f]);
            comma = ",";
        }
    buf_addz(out, "}}");
}

void sim_truth_sums(const struct sim_truth *t, struct buf *out)
{
    buf_addf(out, "\"posts\":%llu,\"open\":%llu,\"rows\":[", (unsigned long long)t->last_seq,
             (unsigned long long)t->n_open);
    for (uint32_t i = 0; i < t->n_rows; i++) {
        if (i)
            buf_addc(out, ',');
        add_row_json(t, &t->rows[i], out);
    }
    buf_addc(out, ']');
}
