/* SPDX-License-Identifier: Apache-2.0 */
/* Any thread tells and lists; one thread syncs and alone touches what is marked so. The events live in one ring that the
 * lock guards for copies only: nothing is formatted, logged or sent under it. Every event has a place, which only grows;
 * `logged` and `stored` are the last places that the syncing thread has dealt with. The tricky part is the stream: a
 * write whose answer is lost is written again, so events carry an id and whoever reads them leaves out what it has seen. */
#include "gatewayd/telemetry/events.h"

#include <jansson.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/base/compiler.h"
#include "libshared/base/log.h"
#include "libshared/cli/human.h"
#include "libshared/store/kv_keys.h"

#define BATCH       64u                /* events of one write */
#define HEAR_US     ((int64_t)2000000) /* between two looks at what other nodes said */
#define HEAR_FEW    32u                /* as many are read when there is little news */
#define EVENT_BYTES 4096u              /* of one in the stream; a longer one is not ours */

struct entry {
    uint64_t place; /* 0: empty */
    struct id id;
    bool is_ours; /* told in this process */
    char node[EVENT_NODE_CAP];
    struct event ev;
};

struct stream_id {
    uint64_t ms, seq;
};

struct events {
    pthread_mutex_t lock;
    struct entry *ring; /* EVENTS_KEPT, by place */
    uint64_t head;      /* the last place given */
    uint64_t stored, n_stored, told, dropped;
    struct wall stored_at;
    char node[EVENT_NODE_CAP];
    int64_t epoch;
    /* of the syncing thread */
    uint64_t logged;
    struct mono heard_at;
    struct stream_id heard; /* the newest of the stream that was read */
};

/* ---- events ---------------------------------------------------------------------------------------------------------- */

static const char *const KINDS[] = {"breaker", "health",  "budget", "provider",
                                    "store",   "anomaly", "config", "key"};
static const char *const SEVERITIES[] = {"info", "warning", "critical"};
_Static_assert(ARRAY_LEN(KINDS) == EVENT_KINDS, "every kind has its name");
_Static_assert(ARRAY_LEN(SEVERITIES) == EVENT_SEVERITIES, "every severity has its name");

const char *event_severity_name(enum event_severity s)
{
    return SEVERITIES[s];
}

static int find_name(const char *const *names, unsigned n, struct span what)
{
    for (unsigned i = 0; i < n; i++)
        if (span_is(what, names[i]))
            return (int)i;
    return -1;
}

bool event_kinds_parse(const char *z, unsigned *out_kinds)
{
    struct span rest = span_of(z);
    unsigned kinds = 0;

    while (rest.p) {
        int k = find_name(KINDS, EVENT_KINDS, span_trim(span_split(&rest, ',')));

        if (k < 0)
            return false;
        kinds |= 1u << k;
    }
    *out_kinds = kinds;
    return true;
}

void event_make(struct event *ev, enum event_kind kind, enum event_severity severity, const char *subject,
                const char *fmt, ...)
{
    va_list ap;

    *ev = (struct event){.kind = kind, .severity = severity};
    (void)span_copy(ev->subject, sizeof(ev->subject), span_of(subject));
    va_start(ap, fmt);
    (void)vsnprintf(ev->text, sizeof(ev->text), fmt, ap);
    va_end(ap);
}

static struct event_fact *add_fact(struct event *ev, const char *name, enum event_fact_type type)
{
    static _Thread_local struct event_fact beyond;
    struct event_fact *f = ev->n_facts < EVENT_FACTS ? &ev->facts[ev->n_facts++] : &beyond;

    *f = (struct event_fact){.type = type};
    (void)span_copy(f->name, sizeof(f->name), span_of(name));
    return f;
}

void event_add_text(struct event *ev, const char *name, const char *value)
{
    struct event_fact *f = add_fact(ev, name, FACT_TEXT);

    (void)span_copy(f->text, sizeof(f->text), span_of(value));
}
void event_add_count(struct event *ev, const char *name, int64_t value)
{
    add_fact(ev, name, FACT_COUNT)->i = value;
}
void event_add_number(struct event *ev, const char *name, double value)
{
    add_fact(ev, name, FACT_NUMBER)->number = value;
}
void event_add_usd(struct event *ev, const char *name, int64_t nanousd)
{
    add_fact(ev, name, FACT_USD)->i = nanousd;
}
void event_add_time(struct event *ev, const char *name, struct wall value)
{
    add_fact(ev, name, FACT_TIME)->i = value.us;
}

/* ---- as text --------------------------------------------------------------------------------------------------------- */

static void add_member(struct buf *out, const char *name, const char *value)
{
    if (out->len && out->p[out->len - 1] != '{')
        buf_addc(out, ',');
    buf_add_json(out, span_of(name));
    buf_addc(out, ':');
    if (value)
        buf_add_json(out, span_of(value));
}

static void add_fact_json(struct buf *out, const struct event_fact *f)
{
    char text[WALL_TEXT_CAP], name[EVENT_NAME_CAP + 8];

    switch (f->type) {
    case FACT_TEXT:
        add_member(out, f->name, f->text);
        break;
    case FACT_COUNT:
        add_member(out, f->name, NULL);
        buf_addf(out, "%lld", (long long)f->i);
        break;
    case FACT_NUMBER:
        add_member(out, f->name, NULL);
        buf_addf(out, f->number - f->number == 0 ? "%.6g" : "null", f->number);
        break;
    case FACT_USD: /* exactly: nano-dollars say so in their name */
        (void)snprintf(name, sizeof(name), "%s_nanousd", f->name);
        add_member(out, name, NULL);
        buf_addf(out, "%lld", (long long)f->i);
        break;
    case FACT_TIME:
        (void)wall_format((struct wall){f->i}, text, sizeof(text));
        add_member(out, f->name, text);
        break;
    }
}

static void add_entry_json(struct buf *out, const struct entry *x)
{
    char id[ID_TEXT_CAP], at[WALL_TEXT_CAP];

    id_format(&x->id, id);
    (void)wall_format(x->ev.at, at, sizeof(at));
    buf_addc(out, '{');
    add_member(out, "id", id);
    add_member(out, "at", at);
    add_member(out, "kind", KINDS[x->ev.kind]);
    add_member(out, "severity", event_severity_name(x->ev.severity));
    add_member(out, "subject", x->ev.subject);
    add_member(out, "text", x->ev.text);
    add_member(out, "node", x->node);
    add_member(out, "facts", NULL);
    buf_addc(out, '{');
    for (unsigned i = 0; i < x->ev.n_facts; i++)
        add_fact_json(out, &x->ev.facts[i]);
    buf_addz(out, "}}");
}

static bool id_parse(const char *z, struct id *out)
{
    static const char HEX[] = "0123456789abcdef";
    unsigned n = 0;

    for (; *z; z++) {
        const char *at = strchr(HEX, *z);

        if (*z == '-')
            continue;
        if (!at || n >= 32)
            return false;
        out->b[n / 2] = (unsigned char)(n % 2 ? out->b[n / 2] | (at - HEX) : (at - HEX) << 4);
        n++;
    }
    return n == 32;
}

/* Text of others may be anything; what an operator's terminal obeys does not come through. */
static bool take_text(const json_t *o, const char *name, char *dst, size_t cap)
{
    const char *v = json_string_value(json_object_get(o, name));

    (void)span_copy(dst, cap, span_of(v ? v : ""));
    for (char *p = dst; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    return v != NULL;
}

static void take_facts(const json_t *facts, struct event *ev)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)facts, key, v)
    {
        struct span name = span_of(key), usd = SPAN_LIT("_nanousd");
        char plain[EVENT_NAME_CAP];
        bool is_usd = name.len > usd.len && span_is(span_make(key + name.len - usd.len, usd.len), usd.p);

        (void)span_copy(plain, sizeof(plain), span_make(key, is_usd ? name.len - usd.len : name.len));
        if (json_is_integer(v) && is_usd)
            event_add_usd(ev, plain, json_integer_value(v));
        else if (json_is_integer(v))
            event_add_count(ev, plain, json_integer_value(v));
        else if (json_is_real(v))
            event_add_number(ev, plain, json_real_value(v));
        else if (json_is_string(v))
            event_add_text(ev, plain, json_string_value(v));
    }
}

static bool read_entry(struct span text, struct entry *out)
{
    json_t *o = text.len <= EVENT_BYTES ? json_loadb(text.p, text.len, 0, NULL) : NULL;
    const char *id = json_string_value(json_object_get(o, "id"));
    const char *at = json_string_value(json_object_get(o, "at"));
    const char *kind = json_string_value(json_object_get(o, "kind"));
    const char *severity = json_string_value(json_object_get(o, "severity"));
    int k = find_name(KINDS, EVENT_KINDS, span_of(kind));
    int s = find_name(SEVERITIES, EVENT_SEVERITIES, span_of(severity));
    bool ok = id && at && k >= 0 && s >= 0 && id_parse(id, &out->id) && human_parse_time(at, &out->ev.at) &&
              take_text(o, "subject", out->ev.subject, sizeof(out->ev.subject)) &&
              take_text(o, "text", out->ev.text, sizeof(out->ev.text)) &&
              take_text(o, "node", out->node, sizeof(out->node));

    if (ok) {
        out->ev.kind = (enum event_kind)k;
        out->ev.severity = (enum event_severity)s;
        take_facts(json_object_get(o, "facts"), &out->ev);
    }
    json_decref(o);
    return ok;
}

/* ---- the ring -------------------------------------------------------------------------------------------------------- */

struct events *events_new(const char *node)
{
    struct events *e = calloc(1, sizeof(*e));

    if (!e)
        abort();
    e->ring = calloc(EVENTS_KEPT, sizeof(*e->ring));
    if (!e->ring)
        abort();
    (void)pthread_mutex_init(&e->lock, NULL);
    (void)span_copy(e->node, sizeof(e->node), span_of(node));
    e->epoch = wall_now().us;
    return e;
}

void events_free(struct events *e)
{
    if (!e)
        return;
    (void)pthread_mutex_destroy(&e->lock);
    free(e->ring);
    free(e);
}

/* Under the lock. The caller fills it, but for its place. */
static struct entry *next_entry(struct events *e)
{
    struct entry *x = &e->ring[++e->head % EVENTS_KEPT];

    if (x->place > e->stored && x->is_ours)
        e->dropped++;
    return x;
}

void events_tell_mt(struct events *e, const struct event *ev)
{
    struct wall at;
    struct id id;
    struct entry *x;

    if (!e)
        return;
    at = ev->at.us ? ev->at : wall_now();
    id = id_mint(at);
    (void)pthread_mutex_lock(&e->lock);
    x = next_entry(e);
    x->place = e->head;
    x->id = id;
    x->is_ours = true;
    memcpy(x->node, e->node, sizeof(x->node));
    x->ev = *ev;
    x->ev.at = at;
    e->told++;
    (void)pthread_mutex_unlock(&e->lock);
}

static bool has(const struct events *e, const struct id *id)
{
    for (unsigned i = 0; i < EVENTS_KEPT; i++)
        if (e->ring[i].place && memcmp(&e->ring[i].id, id, sizeof(*id)) == 0)
            return true;
    return false;
}

/* Own events after `after`, oldest first. */
static size_t copy_own(struct events *e, uint64_t after, struct entry out[BATCH])
{
    uint64_t from;
    size_t n = 0;

    (void)pthread_mutex_lock(&e->lock);
    from = e->head > EVENTS_KEPT ? e->head - EVENTS_KEPT : 0;
    for (uint64_t p = (after > from ? after : from) + 1; p <= e->head && n < BATCH; p++) {
        const struct entry *x = &e->ring[p % EVENTS_KEPT];

        if (x->is_ours)
            out[n++] = *x;
    }
    (void)pthread_mutex_unlock(&e->lock);
    return n;
}

/* ---- the log and the stream ------------------------------------------------------------------------------------------ */

static void log_own(struct events *e, struct entry *some)
{
    size_t n;

    while ((n = copy_own(e, e->logged, some)) > 0) {
        for (size_t i = 0; i < n; i++) {
            const struct event *ev = &some[i].ev;

            log_msg(ev->severity == EVENT_INFO ? LOG_INFO : LOG_WARN, "event: %s: %s: %s", KINDS[ev->kind],
                    ev->subject, ev->text);
        }
        e->logged = some[n - 1].place;
    }
}

static enum err_code store_some(const struct entry *some, size_t n, struct kv *kv, struct err *err)
{
    struct kv_batch *b = kv_batch_new();
    struct buf text AUTO(buf_release) = {.max = EVENT_BYTES};
    enum err_code e;

    for (size_t i = 0; i < n; i++) {
        buf_clear(&text);
        add_entry_json(&text, &some[i]);
        kv_batch_event(b, KV_EVENTS, buf_span(&text), KV_EVENTS_KEPT);
    }
    kv_batch_expire(b, KV_EVENTS, KV_TTL_EVENTS_S, false);
    e = kv_write(kv, b, err);
    kv_batch_free(b);
    return e;
}

static enum err_code store_own(struct events *e, struct entry *some, struct kv *kv, struct err *err)
{
    enum err_code code = ERR_OK;
    size_t n;

    while (!code && (n = copy_own(e, e->stored, some)) > 0) {
        code = store_some(some, n, kv, err);
        if (code)
            break;
        (void)pthread_mutex_lock(&e->lock);
        e->stored = some[n - 1].place;
        e->n_stored += n;
        e->stored_at = wall_now();
        (void)pthread_mutex_unlock(&e->lock);
    }
    return code;
}

struct hearing {
    struct events *e;
    struct stream_id newest;
    struct entry *found; /* newest first */
    size_t n, seen;
    bool reached_known;
};

static bool is_later(struct stream_id a, struct stream_id b)
{
    return a.ms != b.ms ? a.ms > b.ms : a.seq > b.seq;
}

static void hear(void *user, struct span field, struct span value)
{
    struct hearing *h = user;
    struct stream_id at = {0};
    struct span rest = field;

    if (!span_to_u64(span_split(&rest, '-'), &at.ms) || !span_to_u64(rest, &at.seq))
        return;
    h->seen++;
    if (!is_later(at, h->e->heard))
        h->reached_known = true;
    else if (h->n < EVENTS_KEPT) {
        h->newest = is_later(at, h->newest) ? at : h->newest;
        h->found[h->n] = (struct entry){0};
        h->n += read_entry(value, &h->found[h->n]);
    }
}

static enum err_code hear_others(struct events *e, struct kv *kv, struct err *err)
{
    bool is_first = !e->heard.ms && !e->heard.seq;
    unsigned n = is_first ? EVENTS_KEPT : HEAR_FEW;
    struct hearing h = {.e = e, .found = calloc(EVENTS_KEPT, sizeof(*h.found))};
    enum err_code code;

    if (!h.found)
        abort();
    code = kv_events(kv, KV_EVENTS, n, hear, &h, err);
    if (!code && !is_first && h.seen == n && !h.reached_known) {
        h.n = 0;
        code = kv_events(kv, KV_EVENTS, EVENTS_KEPT, hear, &h, err);
    }
    (void)pthread_mutex_lock(&e->lock);
    for (size_t i = code ? 0 : h.n; i-- > 0;) {
        struct entry *x;

        if (has(e, &h.found[i].id))
            continue;
        x = next_entry(e);
        *x = h.found[i];
        x->place = e->head;
    }
    (void)pthread_mutex_unlock(&e->lock);
    if (!code && is_later(h.newest, e->heard))
        e->heard = h.newest;
    free(h.found);
    return code;
}

enum err_code events_sync(struct events *e, struct kv *kv, struct err *err)
{
    struct entry *some = calloc(BATCH, sizeof(*some));
    struct mono now = mono_now();
    enum err_code code = ERR_OK;

    if (!some)
        abort();
    log_own(e, some);
    if (kv)
        code = store_own(e, some, kv, err);
    free(some);
    if (!kv || code || (e->heard_at.us && mono_diff_us(now, e->heard_at) < HEAR_US))
        return code;
    e->heard_at = now;
    return hear_others(e, kv, err);
}

/* ---- looking --------------------------------------------------------------------------------------------------------- */

static bool is_asked(const struct entry *x, const struct events_query *q)
{
    return x->place > q->after && (!q->kinds || q->kinds & 1u << x->ev.kind) && x->ev.at.us >= q->since.us &&
           x->ev.severity >= q->at_least;
}

static int by_time(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    if (x->ev.at.us != y->ev.at.us)
        return x->ev.at.us < y->ev.at.us ? -1 : 1;
    return x->place < y->place ? -1 : 1;
}

struct events_answer events_list_mt(struct events *e, const struct events_query *q, struct buf *out)
{
    struct entry *all = calloc(EVENTS_KEPT, sizeof(*all));
    struct events_answer answer;
    size_t n = 0;

    if (!all)
        abort();
    (void)pthread_mutex_lock(&e->lock);
    for (unsigned i = 0; i < EVENTS_KEPT; i++)
        if (e->ring[i].place && is_asked(&e->ring[i], q))
            all[n++] = e->ring[i];
    answer = (struct events_answer){e->epoch, e->head, e->told, e->n_stored, e->dropped, e->stored_at};
    (void)pthread_mutex_unlock(&e->lock);
    qsort(all, n, sizeof(*all), by_time);
    for (size_t i = q->limit && n > q->limit ? n - q->limit : 0; i < n; i++) {
        if (out->len)
            buf_addc(out, ',');
        add_entry_json(out, &all[i]);
    }
    free(all);
    return answer;
}

static bool has_fact(const struct event *ev, const char *fact, const char *text)
{
    for (unsigned i = 0; i < ev->n_facts; i++)
        if (ev->facts[i].type == FACT_TEXT && strcmp(ev->facts[i].name, fact) == 0 &&
            strcmp(ev->facts[i].text, text) == 0)
            return true;
    return false;
}

bool events_has_mt(struct events *e, enum event_kind kind, const char *subject, const char *fact,
                   const char *text)
{
    bool found = false;

    if (!e)
        return false;
    (void)pthread_mutex_lock(&e->lock);
    for (unsigned i = 0; i < EVENTS_KEPT && !found; i++) {
        const struct entry *x = &e->ring[i];

        found = x->place && x->ev.kind == kind && strcmp(x->ev.subject, subject) == 0 &&
                has_fact(&x->ev, fact, text);
    }
    (void)pthread_mutex_unlock(&e->lock);
    return found;
}

struct events_answer events_stats_mt(struct events *e)
{
    struct events_answer answer;

    (void)pthread_mutex_lock(&e->lock);
    answer = (struct events_answer){e->epoch, e->head, e->told, e->n_stored, e->dropped, e->stored_at};
    (void)pthread_mutex_unlock(&e->lock);
    return answer;
}
