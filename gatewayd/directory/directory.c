/* SPDX-License-Identifier: Apache-2.0 */
/* `rows`, `file` and `lacks` are what the joined configuration is made of; the lock guards the three, everything else belongs to
 * the owner's thread. The rows only ever come whole, from the database or from a snapshot that was signed here. */
#include "gatewayd/directory/directory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "gatewayd/directory/notes.h"
#include "gatewayd/directory/sealed.h"
#include "libshared/base/log.h"
#include "libshared/store/audit.h"
#include "libshared/store/kv_keys.h"

#define FORMAT     1
#define RETRY_US   1000000 /* after the database did not answer */
#define SILENT_US  500000  /* it did not answer, rather than refuse */
#define KV_REST_US 5000000 /* after the realtime store did not: it may take its whole deadline each time */
#define KEYVER_TTL (30 * 86400)

struct directory {
    struct directory_options o;
    char *state_dir;
    pthread_mutex_t lock;
    struct config *file;
    struct directory_rows *rows;
    bool lacks; /* keys that are not in `rows` may exist */

    json_t *doc; /* what `rows` was read from */
    bool is_migrated, has_answered, is_down;
    bool owes_kv; /* a change was made and the realtime store does not know */
    int64_t seen_kv;
    struct mono next_read, next_kv;
    struct mono rest_until; /* a database that says nothing is not waited for by every call */
    struct wall sealed_at;
    _Atomic uint64_t signups, conversions;
    struct notes notes; /* of deeds that the audit log does not have yet */
};

static struct wall now_of(const struct directory *d)
{
    return d->o.now ? d->o.now(d->o.user) : wall_now();
}

/* ---- the joined configuration ---------------------------------------------------------------------------------------- */

struct config *directory_config_mt(struct directory *d)
{
    struct arena scratch = {0};
    struct config_extra x;
    struct config *c;

    (void)pthread_mutex_lock(&d->lock);
    x = rows_extra(d->rows, &scratch);
    x.lacks_keys = d->lacks;
    c = config_join(d->file, &x);
    (void)pthread_mutex_unlock(&d->lock);
    arena_release(&scratch);
    return c;
}

void directory_set_file_mt(struct directory *d, struct config *file)
{
    struct config *old;

    (void)pthread_mutex_lock(&d->lock);
    old = d->file;
    d->file = config_ref(file);
    (void)pthread_mutex_unlock(&d->lock);
    config_unref(old);
}

struct config *directory_file_ref(struct directory *d)
{
    struct config *c;

    (void)pthread_mutex_lock(&d->lock);
    c = config_ref(d->file);
    (void)pthread_mutex_unlock(&d->lock);
    return c;
}

/* Takes both. */
static void use(struct directory *d, json_t *doc, struct directory_rows *rows, bool lacks)
{
    struct directory_rows *old;

    if (rows->n_bad)
        log_warn("directory: %zu rows make no sense and are left out", rows->n_bad);
    (void)pthread_mutex_lock(&d->lock);
    old = d->rows;
    d->rows = rows;
    d->lacks = lacks;
    (void)pthread_mutex_unlock(&d->lock);
    rows_free(old);
    json_decref(d->doc);
    d->doc = doc;
}

/* ---- plans and trials ------------------------------------------------------------------------------------------------ */

size_t directory_plans_mt(struct directory *d, struct arena *a, label **out)
{
    size_t n = 0;

    (void)pthread_mutex_lock(&d->lock);
    *out = arena_array(a, label, d->rows->n_plans + 1);
    for (size_t i = 0; i < d->rows->n_plans; i++)
        if (!d->rows->plans[i].is_deleted)
            (*out)[n++] = intern_z(d->rows->plans[i].id);
    (void)pthread_mutex_unlock(&d->lock);
    return n;
}

void directory_trials_mt(struct directory *d, uint64_t *out_signups, uint64_t *out_conversions)
{
    *out_signups = atomic_load_explicit(&d->signups, memory_order_relaxed);
    *out_conversions = atomic_load_explicit(&d->conversions, memory_order_relaxed);
}

static bool is_trial(const struct directory *d, const char *plan)
{
    const struct directory_plan *p = plan ? rows_plan(d->rows, plan) : NULL;

    return p && p->is_trial;
}

void directory_note_plan(struct directory *d, const char *from, const char *to)
{
    if (!from && is_trial(d, to))
        atomic_fetch_add_explicit(&d->signups, 1, memory_order_relaxed);
    else if (is_trial(d, from) && !is_trial(d, to))
        atomic_fetch_add_explicit(&d->conversions, 1, memory_order_relaxed);
}

/* ---- the signed snapshot --------------------------------------------------------------------------------------------- */

static void seal(struct directory *d)
{
    struct wall now = now_of(d);
    json_t *o = json_pack("{s:i, s:I, s:s, s:O}", "format", FORMAT, "created_at",
                          (json_int_t)(now.us / 1000000), "database", db_where(d->o.db), "rows", d->doc);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    struct err err = {0};

    if (!text || sealed_write(d->state_dir, span_of(text), &err))
        log_warn("directory: no snapshot could be kept: %s", text ? err_text(&err) : "it is not UTF-8");
    d->sealed_at = now; /* a full disk is not tried every second */
    free(text);
    json_decref(o);
}

static enum err_code open_sealed(struct directory *d, json_t **out_doc, int64_t *out_at, struct err *err)
{
    struct buf text AUTO(buf_release) = {0};
    enum err_code e = sealed_read(d->state_dir, &text, err);
    int64_t now_s = now_of(d).us / 1000000;
    json_t *o, *doc;

    if (e)
        return e;
    o = json_loadb(text.p, text.len, 0, NULL);
    doc = json_object_get(o, "rows");
    *out_at = json_integer_value(json_object_get(o, "created_at"));
    if (!doc || json_integer_value(json_object_get(o, "format")) != FORMAT)
        e = err_set(err, ERR_CONFLICT, "it is of another version");
    else if (strcmp(json_string_value(json_object_get(o, "database")) ?: "", db_where(d->o.db)) != 0)
        e = err_set(err, ERR_CONFLICT, "it is of another database");
    else if (*out_at > now_s + 86400 || now_s - *out_at > d->o.max_age_us / 1000000)
        e = err_set(err, ERR_CONFLICT, "it is %lld s old, more than 'directory.max_age'",
                    (long long)(now_s - *out_at));
    else
        *out_doc = json_incref(doc);
    json_decref(o);
    return e;
}

/* What cannot be used leaves the directory empty: then only the file's keys are known. */
static void use_sealed(struct directory *d)
{
    struct err err = {0};
    struct directory_rows *rows = NULL;
    json_t *doc = NULL;
    char when[WALL_TEXT_CAP];
    int64_t at = 0;
    enum err_code e = open_sealed(d, &doc, &at, &err);

    if (!e && !(rows = rows_read(doc)))
        e = err_set(&err, ERR_CONFLICT, "it is not understandable");
    if (e) {
        json_decref(doc);
        log_warn("directory: the snapshot is not used: %s; only keys of the file are known", err_text(&err));
        return;
    }
    (void)wall_format((struct wall){at * 1000000}, when, sizeof(when));
    log_warn("directory: %zu tenants and %zu keys are known from the snapshot of %s", rows->n_tenants,
             rows->n_keys, when);
    use(d, doc, rows, true);
}

/* ---- reading the database -------------------------------------------------------------------------------------------- */

static void note_down(struct directory *d, const struct err *err)
{
    if (!d->is_down)
        log_error("directory: database '%s' does not answer: %s%s", db_where(d->o.db), err_text(err),
                  d->has_answered ? "" : "; unknown keys are answered 503 until it does");
    d->is_down = true;
}

static void note_up(struct directory *d)
{
    if (d->is_down)
        log_info("directory: database '%s' answers again", db_where(d->o.db));
    d->is_down = false;
}

static enum err_code load(struct directory *d, struct err *err)
{
    struct directory_rows *rows;
    json_t *doc = NULL;
    enum err_code e = rows_load(d->o.db, &doc, err);

    if (e)
        return e;
    rows = rows_read(doc);
    if (!rows) {
        json_decref(doc);
        return err_set(err, ERR_INTERNAL, "the directory's rows have no list");
    }
    use(d, doc, rows, false);
    d->has_answered = true;
    seal(d);
    return ERR_OK;
}

static enum err_code ready(struct directory *d, struct err *err)
{
    enum err_code e = d->is_migrated ? ERR_OK : db_migrate(d->o.db, err);

    d->is_migrated |= !e;
    return e;
}

/* Reads what there is to read; *out_new when it differs from before. */
static enum err_code refresh(struct directory *d, bool *out_new, struct err *err)
{
    int64_t version = 0;
    enum err_code e = ready(d, err);

    *out_new = false;
    if (!e)
        e = rows_version(d->o.db, &version, err);
    if (!e && (!d->has_answered || version != d->rows->version)) {
        e = load(d, err);
        *out_new = !e;
    } else if (!e && now_of(d).us - d->sealed_at.us > LIMIT_DIRECTORY_SEAL_US) {
        seal(d);
    }
    if (e)
        note_down(d, err);
    else
        note_up(d);
    return e;
}

static void refresh_and_tell(struct directory *d)
{
    struct mono began = mono_now(), ended;
    struct err err = {0};
    bool is_new = false;
    enum err_code e = refresh(d, &is_new, &err);

    ended = mono_now();
    d->next_read = mono_add_us(ended, e ? RETRY_US : LIMIT_DIRECTORY_READ_US);
    d->rest_until = e && mono_diff_us(ended, began) > SILENT_US ? d->next_read : ended;
    if (is_new && d->o.on_change)
        d->o.on_change(d->o.user);
}

/* ---- the realtime store ---------------------------------------------------------------------------------------------- */

static void take_field(void *user, struct span field, struct span value)
{
    uint64_t v = 0;

    if (span_is(field, "version") && span_to_u64(value, &v))
        *(int64_t *)user = (int64_t)(v & INT64_MAX);
}

static enum err_code tell_kv(struct directory *d, struct err *err)
{
    struct kv_batch *b = kv_batch_new();
    enum err_code e;

    kv_batch_add(b, KV_KEYVER, "version", 1);
    kv_batch_expire(b, KV_KEYVER, KEYVER_TTL, false);
    e = kv_write(d->o.kv, b, err);
    kv_batch_free(b);
    return e;
}

/* Any other version than before is news, that of an emptied store too. */
static void look_at_kv(struct directory *d)
{
    struct err err = {0};
    int64_t version = 0;
    enum err_code e;

    if (!d->o.kv || mono_diff_us(d->next_kv, mono_now()) > 0)
        return;
    e = d->owes_kv ? tell_kv(d, &err) : ERR_OK;
    d->owes_kv &= e != ERR_OK;
    if (!e)
        e = kv_hash(d->o.kv, KV_KEYVER, take_field, &version, &err);
    d->next_kv = mono_add_us(mono_now(), e ? KV_REST_US : LIMIT_DIRECTORY_POLL_US);
    if (e || version == d->seen_kv)
        return;
    d->seen_kv = version;
    d->next_read = mono_now();
}

void directory_note_mt(struct directory *d, const char *actor, const char *action, const char *subject,
                       json_t *detail)
{
    notes_add_mt(&d->notes, now_of(d), actor, action, subject, detail);
}

static void write_notes(struct directory *d)
{
    struct err err = {0};

    if (!d->is_migrated || d->is_down || !notes_any_mt(&d->notes))
        return;
    if (notes_write(&d->notes, d->o.db, &err))
        log_debug("audit: %s", err_text(&err));
}

int64_t directory_tick(struct directory *d)
{
    int64_t left_us;

    look_at_kv(d);
    write_notes(d);
    if (mono_diff_us(d->next_read, mono_now()) <= 0)
        refresh_and_tell(d);
    left_us = mono_diff_us(d->next_read, mono_now());
    if (d->o.kv && left_us > LIMIT_DIRECTORY_POLL_US)
        left_us = LIMIT_DIRECTORY_POLL_US;
    return left_us > 1000 ? left_us : 1000;
}

/* ---- changes --------------------------------------------------------------------------------------------------------- */

const struct directory_rows *directory_rows(struct directory *d)
{
    if (mono_diff_us(d->rest_until, mono_now()) <= 0)
        refresh_and_tell(d);
    return d->rows;
}

bool directory_has_answered(const struct directory *d)
{
    return d->has_answered;
}

/* Takes the lock of the row in PostgreSQL and that of the file in SQLite: changes are one after the other from here on. */
static enum err_code raise_version(struct db *db, struct err *err)
{
    return db_exec(
        db, "directory_raise",
        "INSERT INTO settings (name, value) VALUES ('keyver', '1') ON CONFLICT (name) DO UPDATE SET value = "
        "CAST(CAST(settings.value AS bigint) + 1 AS text)",
        NULL, 0, NULL, err);
}

enum err_code directory_event(struct db *db, int64_t now_s, const char *tenant, const char *kind,
                              const json_t *detail, struct err *err)
{
    char *text = detail ? json_dumps(detail, JSON_COMPACT | JSON_SORT_KEYS) : strdup("{}");
    enum err_code e;

    if (!text)
        return err_set(err, ERR_NO_MEMORY, "no memory for an event");
    e = db_exec(
        db, "tenant_event", "INSERT INTO tenant_events (at, tenant, kind, detail) VALUES ($1, $2, $3, $4)",
        (struct db_value[]){db_int(now_s), db_textz(tenant), db_textz(kind), db_textz(text)}, 4, NULL, err);
    free(text);
    return e;
}

static enum err_code write_all(struct directory *d, const struct directory_change *c, struct err *err)
{
    struct db *db = d->o.db;
    struct audit_row row = {
        .at = now_of(d), .actor = c->actor, .action = c->action, .subject = c->subject, .detail = c->detail};
    int64_t now_s = row.at.us / 1000000;
    enum err_code e = raise_version(db, err);

    if (!e)
        e = c->write(db, now_s, c->user, err);
    return e ? e : audit_append(db, &row, err);
}

static enum err_code as_unavailable(enum err_code e, struct err *err)
{
    struct err why = *err;

    if (e != ERR_IO && e != ERR_TIMEOUT)
        return e;
    return err_set(err, ERR_UNAVAILABLE, "the database does not answer: %.200s", why.text);
}

enum err_code directory_change(struct directory *d, const struct directory_change *c, struct err *err)
{
    struct err why = {0};
    enum err_code e = ready(d, &why);

    if (!e)
        e = db_begin(d->o.db, &why);
    if (!e) {
        e = write_all(d, c, &why);
        if (e)
            db_rollback(d->o.db);
        else
            e = db_commit(d->o.db, &why);
    }
    if (e) {
        *err = why;
        return as_unavailable(e, err);
    }
    d->owes_kv = d->o.kv != NULL;
    d->next_kv = mono_now();
    look_at_kv(d);
    refresh_and_tell(d);
    return ERR_OK;
}

/* ---- changes that are not made --------------------------------------------------------------------------------------- */

static struct config *join(struct directory *d, const struct directory_rows *rows)
{
    struct arena scratch = {0};
    struct config_extra x = rows_extra(rows, &scratch);
    struct config *file = directory_file_ref(d), *c;

    x.lacks_keys = d->lacks;
    c = config_join(file, &x);
    config_unref(file);
    arena_release(&scratch);
    return c;
}

enum err_code directory_try(struct directory *d, const struct directory_change *c,
                            struct directory_would *out, struct err *err)
{
    struct err why = {0};
    enum err_code e = ready(d, &why);

    *out = (struct directory_would){0};
    if (!e)
        e = db_begin(d->o.db, &why);
    if (!e) {
        e = write_all(d, c, &why);
        if (!e)
            e = rows_load(d->o.db, &out->doc, &why);
        db_rollback(d->o.db);
    }
    if (!e && !(out->rows = rows_read(out->doc)))
        e = err_set(&why, ERR_INTERNAL, "the directory's rows have no list");
    if (e) {
        directory_would_release(out);
        *err = why;
        return as_unavailable(e, err);
    }
    out->joined = join(d, out->rows);
    return ERR_OK;
}

void directory_would_release(struct directory_would *w)
{
    config_unref(w->joined);
    rows_free(w->rows);
    json_decref(w->doc);
    *w = (struct directory_would){0};
}

/* ---- life ------------------------------------------------------------------------------------------------------------ */

struct directory *directory_new(const struct directory_options *o, struct config *file)
{
    struct directory *d = calloc(1, sizeof(*d));
    struct err err = {0};
    bool is_new;

    if (!d)
        abort();
    d->o = *o;
    d->state_dir = strdup(o->state_dir);
    d->rows = calloc(1, sizeof(*d->rows));
    if (!d->state_dir || !d->rows)
        abort();
    (void)pthread_mutex_init(&d->lock, NULL);
    notes_init(&d->notes);
    d->file = config_ref(file);
    d->lacks = true;
    if (refresh(d, &is_new, &err))
        use_sealed(d);
    d->next_read = mono_add_us(mono_now(), d->has_answered ? LIMIT_DIRECTORY_READ_US : RETRY_US);
    d->next_kv = mono_now();
    return d;
}

void directory_free(struct directory *d)
{
    if (!d)
        return;
    write_notes(d);
    notes_release(&d->notes);
    rows_free(d->rows);
    json_decref(d->doc);
    config_unref(d->file);
    db_free(d->o.db);
    kv_free(d->o.kv);
    (void)pthread_mutex_destroy(&d->lock);
    free(d->state_dir);
    free(d);
}
