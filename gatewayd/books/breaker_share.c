/* SPDX-License-Identifier: Apache-2.0 */
/* The thread owns both handles; the start uses them before the thread exists. Everything in the stores is untrusted: a record
 * is only taken for a breaker that exists here, so a store cannot fill the table of names, and one that makes no sense is
 * left out. The tricky part is who is right: records carry the stamp of their change, the newer one holds, and a node that
 * finds an older one than its own says its own again. */
#include "gatewayd/books/breaker_share.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libshared/base/log.h"
#include "libshared/store/kv_keys.h"

#define SYNC_US                                                                                              \
    400000 /* a change is told within one turn and heard within another: two nodes agree within a second */
#define REST_US      2000000 /* after the store did not answer */
#define NEWS_MAX     64u     /* records of one batch */
#define RECORD_BYTES 4096u
#define AT_MOST_US   ((int64_t)366 * 86400 * 1000000)
#define PREFIX       "breaker "

struct name { /* "PROVIDER MODEL" of a breaker that exists here */
    char *text;
    label provider, model;
};

struct breaker_share {
    struct breakers *breakers;
    struct kv *kv;
    struct db *db;
    char node[64];
    struct events *events;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool is_stopping;
    /* the thread's */
    bool is_down, has_restored;
    struct name *names;
    size_t n_names;
};

/* ---- records as text ------------------------------------------------------------------------------------------------- */

static const char *force_name(enum breaker_force f)
{
    static const char *const NAMES[] = {"AUTO", "OPEN", "CLOSED"};

    return NAMES[f];
}

static json_t *forced_json(const struct breaker_forced *f)
{
    return json_pack("{s:s, s:I, s:I, s:b, s:s, s:s}", "state", force_name(f->force), "at",
                     (json_int_t)f->at.us, "until", (json_int_t)f->until.us, "drain", (int)f->is_drain,
                     "reason", f->reason, "actor", f->actor);
}

static char *record_text(const struct breaker_share *s, const struct breaker_record *r)
{
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:i, s:s, s:s, s:o}", "provider", label_text(r->provider),
                  "model", label_text(r->model), "state", breaker_state_name(r->state), "at",
                  (json_int_t)r->at.us, "until", (json_int_t)r->until.us, "laps", (int)r->laps, "cause",
                  r->cause, "node", s->node, "forced", forced_json(&r->forced));
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

    json_decref(o);
    return text;
}

static void read_text(const json_t *o, const char *name, char *dst, size_t cap)
{
    const char *v = json_string_value(json_object_get(o, name));

    (void)span_copy(dst, cap, span_of(v ? v : ""));
}

/* A stamp that nobody can have made yet, but for clocks that differ, would hold for ever. */
static bool read_stamp(const json_t *o, const char *name, struct breaker_now now, struct wall *out)
{
    out->us = json_integer_value(json_object_get(o, name));
    return out->us >= 0 && out->us <= now.wall.us + AT_MOST_US;
}

static bool read_forced(const json_t *o, struct breaker_now now, struct breaker_forced *out)
{
    char state[16];

    *out = (struct breaker_forced){0};
    if (!json_is_object(o) || !read_stamp(o, "at", now, &out->at) ||
        !read_stamp(o, "until", now, &out->until))
        return false;
    read_text(o, "state", state, sizeof(state));
    for (int f = BREAKER_AUTO; f <= BREAKER_FORCED_CLOSED; f++)
        if (strcmp(state, force_name((enum breaker_force)f)) == 0)
            out->force = (enum breaker_force)f;
    out->is_drain = json_is_true(json_object_get(o, "drain"));
    read_text(o, "reason", out->reason, sizeof(out->reason));
    read_text(o, "actor", out->actor, sizeof(out->actor));
    return true;
}

static bool read_record(struct span text, struct breaker_now now, struct breaker_record *out)
{
    json_t *o = text.len <= RECORD_BYTES ? json_loadb(text.p, text.len, 0, NULL) : NULL;
    char state[16];
    json_int_t laps = json_integer_value(json_object_get(o, "laps"));
    bool ok = json_is_object(o) && read_stamp(o, "at", now, &out->at) &&
              read_stamp(o, "until", now, &out->until) &&
              read_forced(json_object_get(o, "forced"), now, &out->forced);

    read_text(o, "state", state, sizeof(state));
    read_text(o, "cause", out->cause, sizeof(out->cause));
    out->laps = laps > 0 && laps < 64 ? (unsigned)laps : 0;
    out->state = BREAKER_STATES;
    for (int i = 0; i < BREAKER_STATES; i++)
        if (strcmp(state, breaker_state_name((enum breaker_state)i)) == 0)
            out->state = (enum breaker_state)i;
    json_decref(o);
    return ok && out->state != BREAKER_STATES;
}

/* ---- names ----------------------------------------------------------------------------------------------------------- */

static void forget_names(struct breaker_share *s)
{
    for (size_t i = 0; i < s->n_names; i++)
        free(s->names[i].text);
    free(s->names);
    s->names = NULL;
    s->n_names = 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

static char *name_text(label provider, label model)
{
    char text[300];

    (void)snprintf(text, sizeof(text), "%s %s", label_text(provider), label_text(model));
    return strdup(text);
}

static void learn_names(struct breaker_share *s)
{
    size_t n = breakers_names(s->breakers, NULL, 0);
    struct breaker_name *all;

    if (n == s->n_names)
        return; /* the table only grows */
    forget_names(s);
    all = calloc(n, sizeof(*all));
    s->names = calloc(n, sizeof(*s->names));
    if (!all || !s->names)
        abort();
    s->n_names = breakers_names(s->breakers, all, n);
    if (s->n_names > n)
        s->n_names = n;
    for (size_t i = 0; i < s->n_names; i++) {
        s->names[i] = (struct name){name_text(all[i].provider, all[i].model), all[i].provider, all[i].model};
        if (!s->names[i].text)
            abort();
    }
    free(all);
    qsort(s->names, s->n_names, sizeof(*s->names), by_text);
}

/* ---- the realtime store ---------------------------------------------------------------------------------------------- */

static enum err_code tell(struct breaker_share *s, struct err *err)
{
    struct breaker_now now = breaker_now();
    struct breaker_record *news = calloc(NEWS_MAX, sizeof(*news));
    struct kv_batch *b = kv_batch_new();
    int64_t ttl_s = KV_TTL_LIVE_S;
    enum err_code e = ERR_OK;
    size_t n;

    if (!news)
        abort();
    n = breakers_take_news(s->breakers, now, news, NEWS_MAX);
    for (size_t i = 0; i < n; i++) {
        int64_t left_s = (news[i].forced.until.us - now.wall.us) / 1000000 + 60;
        char *name = name_text(news[i].provider, news[i].model), *text = record_text(s, &news[i]);

        ttl_s = news[i].forced.force != BREAKER_AUTO && left_s > ttl_s ? left_s : ttl_s;
        if (name && text)
            kv_batch_set(b, KV_BREAKERS, name, span_of(text));
        free(name);
        free(text);
    }
    if (n) {
        kv_batch_expire(b, KV_BREAKERS, ttl_s, false);
        e = kv_write(s->kv, b, err);
    }
    for (size_t i = 0; e && i < n; i++)
        breaker_is_news(s->breakers, news[i].provider, news[i].model);
    kv_batch_free(b);
    free(news);
    return e;
}

static void hear(void *user, struct span field, struct span value)
{
    struct breaker_share *s = user;
    struct breaker_now now = breaker_now();
    struct breaker_record r = {0};
    char text[300];
    struct name key = {.text = text}, *found;

    if (field.len >= sizeof(text))
        return;
    (void)span_copy(text, sizeof(text), field);
    found = s->n_names ? bsearch(&key, s->names, s->n_names, sizeof(*s->names), by_text) : NULL;
    if (!found || !read_record(value, now, &r))
        return;
    r.provider = found->provider;
    r.model = found->model;
    breaker_adopt(s->breakers, &r, now);
}

/* Hears first: what is older than another node's word is not told any more, since it would lie over that in the store. */
static int64_t sync_once(struct breaker_share *s)
{
    struct err err = {0};
    enum err_code e;

    learn_names(s);
    e = kv_hash(s->kv, KV_BREAKERS, hear, s, &err);
    if (!e) {
        breakers_forgotten_are_news(s->breakers);
        e = tell(s, &err);
    }
    if (s->events) /* what the stream does not take is brought next time, and says nothing of the breakers */
        (void)!events_sync(s->events, e ? NULL : s->kv, &(struct err){0});
    if (e && !s->is_down)
        log_warn("breakers: the realtime store does not answer, so this node goes by itself: %s",
                 err_text(&err));
    if (!e && s->is_down)
        log_info("breakers: the realtime store answers again");
    s->is_down = e != ERR_OK;
    return e ? REST_US : SYNC_US;
}

/* ---- the history store ----------------------------------------------------------------------------------------------- */

static void setting_name(char *dst, size_t cap, label provider, label model)
{
    (void)snprintf(dst, cap, PREFIX "%s %s", label_text(provider), label_text(model));
}

enum err_code breaker_keep(struct db *db, label provider, label model, const struct breaker_forced *f,
                           struct err *err)
{
    char name[320], *text;
    json_t *o;
    enum err_code e;

    setting_name(name, sizeof(name), provider, model);
    if (f->force == BREAKER_AUTO)
        return db_exec(db, "breaker_forget", "DELETE FROM settings WHERE name = $1",
                       (struct db_value[]){db_textz(name)}, 1, NULL, err);
    o = forced_json(f);
    text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (!text)
        return err_set(err, ERR_BAD_REQUEST, "the reason is not UTF-8");
    e = db_exec(db, "breaker_keep",
                "INSERT INTO settings (name, value) VALUES ($1, $2) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (struct db_value[]){db_textz(name), db_textz(text)}, 2, NULL, err);
    free(text);
    return e;
}

static bool take_kept(void *user, const struct db_value *columns, unsigned n)
{
    struct breaker_share *s = user;
    struct breaker_now now = breaker_now();
    struct breaker_forced f;
    struct span model = columns[0].s, provider;
    json_t *o;

    (void)n;
    (void)span_split(&model, ' '); /* the prefix */
    provider = span_split(&model, ' ');
    o = json_loadb(columns[1].s.p, columns[1].s.len, 0, NULL);
    if (provider.len && model.p && model.len && read_forced(o, now, &f) && f.until.us > now.wall.us)
        breaker_restore(s->breakers, intern(provider), intern(model), &f, now);
    json_decref(o);
    return true;
}

static void restore(struct breaker_share *s)
{
    struct err err = {0};
    enum err_code e = db_query(s->db, "breaker_restore",
                               "SELECT name, value FROM settings WHERE name LIKE 'breaker %' LIMIT 4096",
                               NULL, 0, take_kept, s, &err);

    s->has_restored = e == ERR_OK;
    if (e)
        log_warn("breakers: forced states could not be read yet: %s", err_text(&err));
}

/* ---- the thread ------------------------------------------------------------------------------------------------------ */

static bool wait_us(struct breaker_share *s, int64_t us)
{
    struct timespec end;
    bool stop;

    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += (long)(us % 1000000) * 1000;
    end.tv_sec += us / 1000000 + end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    (void)pthread_mutex_lock(&s->lock);
    while (!s->is_stopping && pthread_cond_timedwait(&s->wake, &s->lock, &end) == 0)
        ;
    stop = s->is_stopping;
    (void)pthread_mutex_unlock(&s->lock);
    return !stop;
}

static void *run(void *arg)
{
    struct breaker_share *s = arg;
    int64_t pause = SYNC_US;

    (void)pthread_setname_np(pthread_self(), "breakers");
    while (wait_us(s, pause)) {
        if (!s->has_restored)
            restore(s);
        pause = sync_once(s);
        if (!s->has_restored && pause < REST_US)
            pause = REST_US;
    }
    (void)sync_once(s); /* what changed last */
    return NULL;
}

static void release(struct breaker_share *s)
{
    forget_names(s);
    kv_free(s->kv);
    db_free(s->db);
    (void)pthread_cond_destroy(&s->wake);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

struct breaker_share *breaker_share_start(const struct breaker_share_options *o, struct err *err)
{
    struct breaker_share *s = calloc(1, sizeof(*s));
    pthread_condattr_t attr;

    if (!s)
        abort();
    *s = (struct breaker_share){.breakers = o->breakers, .kv = o->kv, .db = o->db, .events = o->events};
    (void)snprintf(s->node, sizeof(s->node), "%s", o->node);
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    if (o->is_informed) {
        restore(s);
        (void)sync_once(s);
    }
    if (pthread_create(&s->thread, NULL, run, s) != 0) {
        (void)err_set(err, ERR_NO_MEMORY, "no thread for the breakers");
        release(s);
        return NULL;
    }
    return s;
}

void breaker_share_stop(struct breaker_share *s)
{
    if (!s)
        return;
    (void)pthread_mutex_lock(&s->lock);
    s->is_stopping = true;
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
    (void)pthread_join(s->thread, NULL);
    release(s);
}
