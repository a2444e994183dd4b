/* SPDX-License-Identifier: Apache-2.0 */
/* Leases in the memory store: the same answers as the script in Redis (kv_lease_script.c), step by step. A daemon without
 * Redis is alone and has no leases; this is for tests and for the simulation. Under the store's mutex.
 *
 * As there, everything is judged before the first write: rows are answered in a plan, which is carried out when none of them
 * was refused. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "libshared/store/kv_keys.h"
#include "libshared/store/kv_lease_priv.h"
#include "libshared/store/kv_priv.h"

#define NODES_MAX 256u
#define STEP_MS   2000
#define MARK_MS   1500
#define RENEW_MS  150
#define MINUTE_US INT64_C(60000000)
#define FAR_US    INT64_C(86400000000)
#define NAME_CAP  128u

struct node { /* what a field says of an instance */
    char name[NAME_CAP];
    int64_t v[4];
    bool is_alive;
};

struct home { /* {gw}:lease */
    int64_t epoch, clock, last, quiet;
    struct node nodes[NODES_MAX];
    size_t n;
    struct mark {
        char key[KV_KEY_CAP];
        int64_t at;
    } marks[NODES_MAX];
    size_t n_marks;
    bool is_bad;
};

struct entries {                                                       /* of one key */
    struct node granted[NODES_MAX], slots[NODES_MAX], left[NODES_MAX]; /* "g:", "c:", "l:" */
    size_t n_granted, n_slots, n_left;
};

struct work {
    struct memory *m;
    int64_t now_us;
    struct kv_lease_call *c;
    struct home home;
    struct node *mine; /* session, NULL: none */
    bool is_same, is_still, has_books;
    struct entries e; /* of the row at hand */
};

static int64_t number(struct span s, bool *ok)
{
    int64_t v = 0;

    *ok &= kv_parse_int(s, &v);
    return v;
}

static bool numbers(struct span s, int64_t *out, size_t n)
{
    size_t got = 0;
    bool ok = true;

    while (s.len) {
        struct span word = span_split(&s, ' ');

        if (got == n)
            return false;
        out[got++] = number(word, &ok);
    }
    return got == n;
}

static void add_node(struct node *list, size_t *n, struct span field, struct span value, size_t width)
{
    struct node *d = &list[*n];

    if (*n == NODES_MAX || field.len - 2 >= NAME_CAP)
        return;
    *d = (struct node){0};
    (void)span_copy(d->name, sizeof(d->name), span_make(field.p + 2, field.len - 2));
    if (!numbers(value, d->v, width))
        d->v[0] = -1;
    (*n)++;
}

static void read_home(void *user, struct span field, struct span value)
{
    struct home *h = user;
    bool ok = true;

    if (span_is(field, "epoch"))
        h->epoch = number(value, &ok);
    else if (span_is(field, "clock"))
        h->clock = number(value, &ok);
    else if (span_is(field, "last"))
        h->last = number(value, &ok);
    else if (span_is(field, "quiet"))
        h->quiet = number(value, &ok);
    else if (span_starts(field, SPAN_LIT("n:")))
        add_node(h->nodes, &h->n, field, value, 4);
    else if (span_starts(field, SPAN_LIT("w:")) && h->n_marks < NODES_MAX) {
        (void)span_copy(h->marks[h->n_marks].key, KV_KEY_CAP, span_make(field.p + 2, field.len - 2));
        h->marks[h->n_marks++].at = number(value, &ok);
    }
    h->is_bad |= !ok;
}

static struct node *node_of(struct node *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].name, name) == 0)
            return &list[i];
    return NULL;
}

static struct mark *mark_of(struct home *h, const char *key)
{
    for (size_t i = 0; i < h->n_marks; i++)
        if (strcmp(h->marks[i].key, key) == 0 && h->marks[i].at >= 0)
            return &h->marks[i];
    return NULL;
}

static void read_entry(void *user, struct span field, struct span value)
{
    struct entries *e = user;

    if (span_starts(field, SPAN_LIT("g:")))
        add_node(e->granted, &e->n_granted, field, value, 3);
    else if (span_starts(field, SPAN_LIT("c:")))
        add_node(e->slots, &e->n_slots, field, value, 2);
    else if (span_starts(field, SPAN_LIT("l:")))
        add_node(e->left, &e->n_left, field, value, 1);
}

static void read_key(struct work *w, const char *key)
{
    w->e.n_granted = w->e.n_slots = w->e.n_left = 0; /* nobody looks beyond, and clearing all of it is dear */
    kv_memory_each(kv_memory_hash(w->m, key, w->now_us), read_entry, &w->e);
}

static bool is_living(const struct work *w, const struct node *d)
{
    const struct node *s = node_of((struct node *)w->home.nodes, w->home.n, d->name);

    return s && s->is_alive && s->v[0] == d->v[0];
}

static int64_t above_0(int64_t v)
{
    return v > 0 ? v : 0;
}

static int64_t field_of(struct work *w, const char *key, const char *field, bool *ok)
{
    const struct entry *e = kv_memory_hash(w->m, key, w->now_us);
    struct span s;

    return e && kv_memory_get(e, field, &s) ? number(s, ok) : 0;
}

static void put(struct work *w, const struct kv_lease_row *r, const char *field, const char *value)
{
    kv_memory_set(kv_memory_make(w->m, r->key, w->now_us, r->ttl_s), field, value);
}

static void put_number(struct work *w, const struct kv_lease_row *r, const char *field, int64_t v)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRId64, v);
    put(w, r, field, text);
}

static void name_field(char dst[NAME_CAP + 4], char kind, const char *name)
{
    (void)snprintf(dst, NAME_CAP + 4, "%c:%s", kind, name);
}

static void drop(struct work *w, const char *key, char kind, const char *name)
{
    char field[NAME_CAP + 4];

    name_field(field, kind, name);
    kv_memory_unset(w->m, key, field, w->now_us);
}

/* Of nodes that are gone, or lives of them that are. */
static void drop_dead(struct work *w, const char *key, const char *but)
{
    for (size_t i = 0; i < w->e.n_left; i++) {
        const struct node *l = &w->e.left[i], *g = node_of(w->e.granted, w->e.n_granted, l->name);

        if (!(but && strcmp(l->name, but) == 0) && !(g && is_living(w, g)))
            drop(w, key, 'l', l->name);
    }
    for (size_t i = 0; i < w->e.n_granted; i++)
        if (!(but && strcmp(w->e.granted[i].name, but) == 0) && !is_living(w, &w->e.granted[i]))
            drop(w, key, 'g', w->e.granted[i].name);
    for (size_t i = 0; i < w->e.n_slots; i++)
        if (!(but && strcmp(w->e.slots[i].name, but) == 0) && !is_living(w, &w->e.slots[i]))
            drop(w, key, 'c', w->e.slots[i].name);
}

/* ---- money ---- */

static int64_t outstanding_of(struct work *w, const struct kv_lease_row *r)
{
    const struct node *was = node_of(w->e.granted, w->e.n_granted, w->c->instance),
                      *left = node_of(w->e.left, w->e.n_left, w->c->instance);
    int64_t l = r->granted - (w->is_same ? r->posted : 0);

    if (was && was->v[0] == w->c->life)
        l = (left ? left->v[0] : 0) + r->granted - was->v[1];
    if (w->is_same && l > r->most)
        l = r->most;
    return above_0(l);
}

static void others_of(struct work *w, struct kv_lease_row *r)
{
    int64_t silent;

    r->others = r->silent_ms = 0;
    for (size_t i = 0; i < w->e.n_granted; i++) {
        const struct node *g = &w->e.granted[i], *l = node_of(w->e.left, w->e.n_left, g->name);

        if (strcmp(g->name, w->c->instance) == 0 || !is_living(w, g) || !l)
            continue;
        r->others += above_0(l->v[0]);
        silent = g->v[2] > 0 ? w->home.clock - g->v[2] + 1 : FAR_US;
        if (l->v[0] > 0 && silent > r->silent_ms)
            r->silent_ms = silent;
    }
}

static void want(struct home *h, const char *key)
{
    struct mark *m = mark_of(h, key);

    if (!m) {
        if (h->n_marks == NODES_MAX)
            return;
        m = &h->marks[h->n_marks++];
        (void)snprintf(m->key, sizeof(m->key), "%s", key);
        m->at = -RENEW_MS;
    }
    if (h->clock - m->at >= RENEW_MS)
        m->at = h->clock;
}

static bool judge_money(struct work *w, struct kv_lease_row *r)
{
    bool ok = true;
    int64_t posted = field_of(w, r->key, "posted", &ok), l = outstanding_of(w, r), room, add = 0;

    others_of(w, r);
    room = r->limit - posted - r->others - l;
    if (!w->is_still && w->has_books && r->need - r->granted <= room) {
        add = r->want - r->granted < room ? r->want - r->granted : room;
        add = above_0(add);
    } else if (r->need > r->granted && r->others > 0) {
        want(&w->home, r->key);
    }
    r->got = r->granted + add;
    r->outstanding = l + add;
    r->rest = room - add;
    return ok && r->got <= KV_INT_MAX && r->outstanding <= KV_INT_MAX;
}

static void write_money(struct work *w, const struct kv_lease_row *r)
{
    bool is_kept = r->outstanding > 0 || r->need > r->granted;
    char field[NAME_CAP + 4], text[80];

    drop_dead(w, r->key, w->c->instance);
    if (is_kept) {
        name_field(field, 'l', w->c->instance);
        put_number(w, r, field, r->outstanding);
        name_field(field, 'g', w->c->instance);
        (void)snprintf(text, sizeof(text), "%" PRId64 " %" PRId64 " %" PRId64, w->c->life, r->got,
                       r->got > r->granted || r->need < r->granted ? 0 : w->home.clock);
        put(w, r, field, text);
    } else {
        drop(w, r->key, 'l', w->c->instance);
        drop(w, r->key, 'g', w->c->instance);
    }
    if (!kv_memory_hash(w->m, r->key, w->now_us))
        return;
    put_number(w, r, "leased", r->others + r->outstanding);
    put_number(w, r, "epoch", w->home.epoch);
}

/* ---- rates and slots ---- */

static int64_t move_us(int64_t n, int64_t limit, bool up)
{
    __int128 us = ((__int128)n * MINUTE_US + (up ? limit - 1 : 0)) / limit;

    return us > FAR_US ? FAR_US : (int64_t)us;
}

static bool judge_rate(struct work *w, struct kv_lease_row *r)
{
    bool ok = true, is_at = true;
    int64_t tat = field_of(w, r->key, "tat", &ok), at = field_of(w, r->key, "at", &is_at), room;
    int64_t ahead = above_0(tat - (at > w->now_us ? at : w->now_us)); /* the clock may have stepped back */

    ahead = r->granted > 0 ? ahead + move_us(r->granted, r->limit, true)
                           : above_0(ahead - move_us(-r->granted, r->limit, false));
    if (ahead > FAR_US)
        ahead = FAR_US;
    room = above_0((int64_t)((__int128)(MINUTE_US - ahead) * r->limit / MINUTE_US));
    r->got = r->need <= room ? (r->want < room ? r->want : room) : 0;
    if (r->got)
        ahead += move_us(r->got, r->limit, true);
    r->outstanding = r->silent_ms = 0;
    r->rest = room - r->got;
    r->others = ahead;
    return ok && is_at;
}

static bool judge_slots(struct work *w, struct kv_lease_row *r)
{
    int64_t room, add = 0;

    r->others = r->outstanding = r->silent_ms = 0;
    for (size_t i = 0; i < w->e.n_slots; i++)
        if (strcmp(w->e.slots[i].name, w->c->instance) != 0 && is_living(w, &w->e.slots[i]))
            r->others += above_0(w->e.slots[i].v[1]);
    room = r->limit - r->others - r->granted;
    if (r->need - r->granted <= room)
        add = above_0(r->want - r->granted < room ? r->want - r->granted : room);
    r->got = r->granted + add;
    r->rest = room - add;
    return true;
}

static void write_slots(struct work *w, const struct kv_lease_row *r)
{
    char field[NAME_CAP + 4], text[64];

    drop_dead(w, r->key, w->c->instance);
    if (r->got <= 0) {
        drop(w, r->key, 'c', w->c->instance);
        return;
    }
    name_field(field, 'c', w->c->instance);
    (void)snprintf(text, sizeof(text), "%" PRId64 " %" PRId64, w->c->life, r->got);
    put(w, r, field, text);
}

static void write_sweep(struct work *w, const struct kv_lease_row *r)
{
    int64_t sum = 0;
    struct span leased;

    drop_dead(w, r->key, NULL);
    read_key(w, r->key);
    for (size_t i = 0; i < w->e.n_left; i++)
        sum += above_0(w->e.left[i].v[0]);
    if (kv_memory_hash(w->m, r->key, w->now_us) &&
        kv_memory_get(kv_memory_hash(w->m, r->key, w->now_us), "leased", &leased))
        put_number(w, r, "leased", sum);
}

/* ---- a call ---- */

static void tick(struct work *w, int64_t now_ms)
{
    struct home *h = &w->home;
    const struct kv_lease_call *c = w->c;
    int64_t step = now_ms - (h->last ? h->last : now_ms);

    h->clock += step < 0 ? 0 : step > STEP_MS ? STEP_MS : step;
    h->last = now_ms;
    if (!h->epoch) {
        h->epoch = kv_lease_fresh_epoch();
        h->clock = 1;
        h->quiet = c->nodes > 0 ? 1 + c->ttl_ms : 0;
    } else if (c->epoch && c->epoch != h->epoch && !h->quiet) {
        h->quiet = h->clock + c->ttl_ms;
    }
    w->is_same = c->epoch == h->epoch;
}

static void bury(struct work *w, const char *name)
{
    char field[NAME_CAP + 4];

    name_field(field, 'n', name);
    kv_memory_unset(w->m, KV_LEASES, field, w->now_us);
}

/* What the caller knew when it stated what it has; a new life has nothing to state. */
static int64_t knew(const struct work *w)
{
    if (!w->c->epoch)
        return w->home.epoch;
    return w->c->is_partial ? 0 : w->c->epoch;
}

/* Who is alive, and of those, who has called knowing this epoch; the caller's own session included. */
static void muster(struct work *w, int op, int64_t *out_live, int64_t *out_heard, int64_t *out_dead)
{
    *out_live = *out_heard = *out_dead = 0;
    for (size_t i = 0; i < w->home.n; i++) {
        struct node *d = &w->home.nodes[i];

        if (d == w->mine)
            continue;
        d->is_alive = d->v[2] >= w->home.clock;
        *out_live += d->is_alive;
        *out_heard += d->is_alive && d->v[3] == w->home.epoch;
        *out_dead += !d->is_alive;
    }
    if (op == KV_LEASE_KEEP) {
        *out_live += w->mine != NULL;
        *out_heard += w->mine && w->mine->v[3] == w->home.epoch;
        return;
    }
    *out_dead += w->mine && w->mine->v[0] != w->c->life;
    ++*out_live;
    *out_heard += knew(w) == w->home.epoch;
    if (!w->mine && w->home.n < NODES_MAX) {
        w->mine = &w->home.nodes[w->home.n++];
        *w->mine = (struct node){0};
        (void)snprintf(w->mine->name, sizeof(w->mine->name), "%s", w->c->instance);
    }
}

static bool judge_row(struct work *w, struct kv_lease_row *r)
{
    read_key(w, r->key);
    switch (r->kind) {
    case KV_LEASE_MONEY:
        return judge_money(w, r);
    case KV_LEASE_RATE:
        return judge_rate(w, r);
    case KV_LEASE_SLOTS:
        return judge_slots(w, r);
    default:
        r->got = r->outstanding = r->rest = r->others = r->silent_ms = 0;
        return true;
    }
}

static void write_row(struct work *w, const struct kv_lease_row *r)
{
    read_key(w, r->key);
    switch (r->kind) {
    case KV_LEASE_MONEY:
        write_money(w, r);
        break;
    case KV_LEASE_RATE:
        put_number(w, r, "tat", w->now_us + r->others);
        put_number(w, r, "at", w->now_us);
        break;
    case KV_LEASE_SLOTS:
        write_slots(w, r);
        break;
    default:
        write_sweep(w, r);
        break;
    }
}

static void write_home(struct work *w)
{
    struct kv_lease_row home = {.key = KV_LEASES, .ttl_s = KV_TTL_LEASES_S};
    const struct home *h = &w->home;
    char field[KV_KEY_CAP + 4], text[80];

    put_number(w, &home, "epoch", h->epoch);
    put_number(w, &home, "clock", h->clock);
    put_number(w, &home, "last", h->last);
    put_number(w, &home, "quiet", h->quiet);
    if (w->mine) {
        (void)snprintf(field, sizeof(field), "n:%s", w->mine->name);
        (void)snprintf(text, sizeof(text), "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64, w->mine->v[0],
                       w->mine->v[1], w->mine->v[2], w->mine->v[3]);
        put(w, &home, field, text);
    }
    for (size_t i = 0; i < h->n; i++)
        if (&h->nodes[i] != w->mine && !h->nodes[i].is_alive)
            bury(w, h->nodes[i].name);
    for (size_t i = 0; i < h->n_marks; i++) {
        (void)snprintf(field, sizeof(field), "w:%s", h->marks[i].key);
        if (h->marks[i].at < 0)
            kv_memory_unset(w->m, KV_LEASES, field, w->now_us);
        else
            put_number(w, &home, field, h->marks[i].at);
    }
}

static enum err_code judge_keys(struct work *w, struct err *err)
{
    for (size_t i = 0; i < w->c->n; i++) {
        const struct kv_lease_row *r = &w->c->rows[i];

        if (!kv_memory_is_hash(w->m, r->key, w->now_us))
            return err_set(err, ERR_IO, "'%.200s' is no hash", r->key);
        if (r->ttl_s < 1 || r->limit < (r->kind == KV_LEASE_RATE) || r->need < 0 || r->want < 0 ||
            (r->kind != KV_LEASE_RATE && r->granted < 0))
            return err_set(err, ERR_UNAVAILABLE, "bad argument");
    }
    return ERR_OK;
}

static void forget_marks(struct home *h)
{
    for (size_t i = 0; i < h->n_marks; i++)
        if (h->clock - h->marks[i].at > MARK_MS)
            h->marks[i].at = -1;
}

static enum err_code carry_out(struct work *w, int op, struct err *err)
{
    struct kv_lease_call *c = w->c;
    size_t n = op == KV_LEASE_KEEP ? 0 : c->n;
    int64_t live, heard, dead, before = 0;
    char seq[KV_KEY_CAP];

    muster(w, op, &live, &heard, &dead);
    if (w->mine && op == KV_LEASE_CALL) {
        before = w->mine->v[0] == c->life ? w->mine->v[1] : 0;
        w->mine->v[0] = c->life;
        w->mine->v[1] = c->sequence;
        w->mine->v[3] = knew(w);
        w->mine->is_alive = true;
    }
    if (w->mine)
        w->mine->v[2] = w->home.clock + c->ttl_ms + c->grace_ms;
    w->is_still = w->home.quiet > w->home.clock && !(c->nodes > 0 && heard >= c->nodes);
    kv_key_watermark(seq, c->instance);
    w->has_books = kv_memory_hash(w->m, KV_BOOKS, w->now_us) &&
                   (!c->needs_books || kv_memory_hash(w->m, seq, w->now_us));
    for (size_t i = 0; i < n; i++)
        if (!judge_row(w, &c->rows[i]))
            return err_set(err, ERR_IO, "'%.200s' has a field that is no integer", c->rows[i].key);
    write_home(w);
    for (size_t i = 0; i < n; i++)
        write_row(w, &c->rows[i]);
    c->heard_epoch = w->home.epoch;
    c->heard_nodes = live;
    c->dead = dead;
    c->is_quiet = w->is_still || !w->has_books;
    c->heard_sequence = before;
    c->has_books = w->has_books;
    for (size_t i = 0; c->wanted && i < w->home.n_marks; i++)
        if (w->home.marks[i].at >= 0)
            c->wanted(c->user, span_of(w->home.marks[i].key));
    return ERR_OK;
}

enum err_code kv_lease_memory(struct memory *m, int64_t now_us, int op, struct kv_lease_call *c,
                              struct err *err)
{
    struct work *w = calloc(1, sizeof(*w));
    enum err_code e;

    if (!w)
        abort();
    w->m = m;
    w->now_us = now_us;
    w->c = c;
    e = judge_keys(w, err);
    if (!e && !kv_memory_is_hash(m, KV_LEASES, now_us))
        e = err_set(err, ERR_IO, "'%s' is no hash", KV_LEASES);
    if (!e)
        kv_memory_each(kv_memory_hash(m, KV_LEASES, now_us), read_home, &w->home);
    if (!e && w->home.is_bad)
        e = err_set(err, ERR_IO, "'%s' holds no leases", KV_LEASES);
    w->mine = node_of(w->home.nodes, w->home.n, c->instance);
    if (!e && op == KV_LEASE_CALL && w->mine &&
        (w->mine->v[0] > c->life || (w->mine->v[0] == c->life && w->mine->v[1] >= c->sequence)))
        e = kv_lease_late(c, w->mine->v[0], w->mine->v[1], err);
    if (!e) {
        tick(w, now_us / 1000);
        forget_marks(&w->home);
        e = carry_out(w, op, err);
    }
    free(w);
    return e;
}
