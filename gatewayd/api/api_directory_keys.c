/* SPDX-License-Identifier: Apache-2.0 */
/* Keys. The text of one exists in the answer to its making and nowhere else: not in the database, the audit log or a message.
 * On the directory's thread.
 *
 * A row whose id is "NAME~…" is what is left of a key of that name: rotated out, or replaced after it was revoked; or it is a
 * refusal of a key that the file defines. A revoked row is never deleted while the key is used, so its text is refused as
 * revoked even when the file names its hash. */
#include <stdio.h>
#include <stdlib.h>

#include "gatewayd/api/api_directory_priv.h"
#include "gatewayd/api/bodies_priv.h"
#include "gatewayd/config/value.h"
#include "libshared/base/id.h"

#define GRACE_MAX_S (90 * 86400)
#define KEPT_S      (90 * 86400) /* what was rotated out and is over is forgotten after this */

enum { K_REASON, K_EXPIRES, K_ENABLED, K_RPM, K_TPM, K_CONCURRENT, K_TENANT, K_ID, K_COUNT };

static const struct field KEY_FIELDS[K_COUNT] = {
    [K_REASON] = FIELD_REASON,
    [K_EXPIRES] = {.name = "expires_at", .type = FIELD_TIME, .may_be_null = true},
    [K_ENABLED] = {.name = "enabled", .type = FIELD_BOOL},
    [K_RPM] = {.name = "rpm", .type = FIELD_COUNT, .max = 1000000000, .may_be_null = true},
    [K_TPM] = {.name = "tpm", .type = FIELD_COUNT, .max = 1000000000000, .may_be_null = true},
    [K_CONCURRENT] = {.name = "concurrent", .type = FIELD_COUNT, .max = 1000000, .may_be_null = true},
    [K_TENANT] = {.name = "tenant", .type = FIELD_NAME, .is_required = true},
    [K_ID] = {.name = "id", .type = FIELD_NAME, .is_required = true},
};
const struct api_body BODY_KEY_NEW = {KEY_FIELDS, K_COUNT};
const struct api_body BODY_KEY = {KEY_FIELDS, K_TENANT};

enum { R_REASON, R_GRACE, R_COUNT };

static const struct field ROTATE_FIELDS[R_COUNT] = {
    [R_REASON] = FIELD_REASON,
    [R_GRACE] = {.name = "grace_seconds", .type = FIELD_COUNT, .max = GRACE_MAX_S},
};
const struct api_body BODY_KEY_ROTATE = {ROTATE_FIELDS, R_COUNT};

/* A call on one key. `call` is first: the writers are given it. */
struct key_call {
    struct call call;
    char tenant[LIMIT_NAME_BYTES + 1], id[LIMIT_NAME_BYTES + 1], subject[2 * LIMIT_NAME_BYTES + 2];
    unsigned char sha256[SHA256_BYTES];
    char text[KEY_TEXT_CAP];
    const struct config_key *of_file; /* NULL: the file has none of that name */
};

static void name_key(struct key_call *k, struct span tenant, struct span id)
{
    (void)span_copy(k->tenant, sizeof(k->tenant), tenant);
    (void)span_copy(k->id, sizeof(k->id), id);
    (void)snprintf(k->subject, sizeof(k->subject), "%s%s%s", k->tenant, id.len ? "/" : "", k->id);
    for (size_t i = 0; i < k->call.file->n_keys; i++)
        if (strcmp(k->call.file->keys[i].id, k->id) == 0 &&
            strcmp(k->call.file->keys[i].tenant->id, k->tenant) == 0)
            k->of_file = &k->call.file->keys[i];
}

/* "tenant/id" with `suffix` behind it; replies when the path is not that. */
static bool path_key(struct key_call *k, const char *suffix)
{
    struct span rest = k->call.rq->tail, tenant = span_split(&rest, '/');
    size_t n = strlen(suffix);

    if (rest.len <= n || memcmp(rest.p + rest.len - n, suffix, n) != 0)
        return call_refuse(&k->call, ERR_NOT_FOUND, "there is no such key");
    rest.len -= n;
    if (!value_is_name(tenant) || !value_is_name(rest))
        return call_refuse(&k->call, ERR_NOT_FOUND, "there is no such key");
    name_key(k, tenant, rest);
    return true;
}

static void end_key(struct key_call *k)
{
    explicit_bzero(k->text, sizeof(k->text));
    call_end(&k->call);
}

/* ---- showing --------------------------------------------------------------------------------------------------------- */

static const char *state_of(const struct config_key *k, bool is_old)
{
    if (k->is_revoked)
        return "revoked";
    if (k->expires_at_us && wall_now().us >= k->expires_at_us)
        return "expired";
    if (!k->is_enabled)
        return "disabled";
    return is_old ? "replaced" : "active";
}

static json_t *json_rate(uint64_t n)
{
    return n ? api_json_count(n) : json_null();
}

static json_t *json_key(const struct config_key *k, const struct directory_key *row)
{
    json_t *o = json_object();
    bool is_old = row && strchr(row->id, '~');

    (void)json_object_set_new(o, "tenant", json_string(k->tenant->id));
    (void)json_object_set_new(o, "id", json_string(k->id));
    (void)json_object_set_new(o, "prefix", row ? json_string(row->prefix) : json_null());
    (void)json_object_set_new(o, "state", json_string(state_of(k, is_old)));
    (void)json_object_set_new(o, "source", json_string(row ? "database" : "file"));
    (void)json_object_set_new(o, "created_at", row ? json_seconds(row->created_at) : json_null());
    (void)json_object_set_new(o, "expires_at", json_seconds(k->expires_at_us / 1000000));
    (void)json_object_set_new(o, "revoked_at", row ? json_seconds(row->revoked_at) : json_null());
    (void)json_object_set_new(o, "rpm", json_rate(k->limits.rpm));
    (void)json_object_set_new(o, "tpm", json_rate(k->limits.tpm));
    (void)json_object_set_new(o, "concurrent", json_rate(k->limits.concurrent));
    return o;
}

/* A row that the file's key of the same name hides is not found by its hash. */
static void list_row(const struct call *c, const struct directory_key *row, const char *tenant, json_t *list)
{
    const struct config_key *k = config_find_key(c->joined, row->sha256);

    if (k && !config_find_key(c->file, row->sha256) && (!tenant[0] || strcmp(tenant, row->tenant) == 0))
        (void)json_array_append_new(list, json_key(k, row));
}

void api_keys(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    json_t *o = json_object(), *list = json_array();
    char tenant[LIMIT_NAME_BYTES + 1] = "";

    (void)call_begin(&c, rq, reply, NULL, 0);
    (void)api_query_param(rq->query, "tenant", tenant, sizeof(tenant));
    for (size_t i = 0; i < c.file->n_keys; i++) {
        const struct config_key *k = config_find_key(c.joined, c.file->keys[i].sha256);

        if (k && (!tenant[0] || strcmp(tenant, k->tenant->id) == 0))
            (void)json_array_append_new(list, json_key(k, NULL));
    }
    for (size_t i = 0; i < c.rows->n_keys; i++)
        list_row(&c, &c.rows->keys[i], tenant, list);
    (void)json_object_set_new(o, "keys", list);
    (void)json_object_set_new(o, "complete", json_boolean(directory_has_answered(c.d)));
    api_reply_json(reply, o);
    call_end(&c);
}

/* NULL: there is none. */
static json_t *current_key(struct key_call *k)
{
    const struct directory_key *row = k->of_file ? NULL : rows_key(k->call.rows, k->tenant, k->id);
    const struct config_key *key = k->of_file ? config_find_key(k->call.joined, k->of_file->sha256)
                                   : row      ? config_find_key(k->call.joined, row->sha256)
                                              : NULL;

    return key ? json_key(key, row) : NULL;
}

static void note_key(struct key_call *k)
{
    json_t *was = current_key(k);

    if (was)
        call_note_was(&k->call, was);
}

static void reply_key(struct key_call *k)
{
    json_t *key = current_key(k);

    if (key)
        api_reply_json(k->call.reply, key);
    else
        (void)call_refuse(&k->call, ERR_NOT_FOUND, "key '%s' does not exist", k->subject);
}

/* ---- making ---------------------------------------------------------------------------------------------------------- */

static void mint(struct key_call *k)
{
    key_mint(k->text);
    sha256(span_of(k->text), k->sha256);
}

static json_t *json_minted(const struct key_call *k)
{
    json_t *o = json_object();

    (void)json_object_set_new(o, "tenant", json_string(k->tenant));
    (void)json_object_set_new(o, "id", json_string(k->id));
    /* Of a dry run there is no key, and nobody should write this one down. */
    (void)json_object_set_new(o, "key", k->call.is_dry ? json_null() : json_string(k->text));
    (void)json_object_set_new(o, "prefix",
                              k->call.is_dry ? json_null() : json_stringn(k->text, KEY_PREFIX_LEN));
    return o;
}

static enum err_code insert_key(struct db *db, int64_t now_s, const struct key_call *k,
                                struct db_value expires, bool is_enabled, struct err *err)
{
    struct db_value v[] = {db_textz(k->tenant),
                           db_textz(k->id),
                           db_blob(span_make(k->sha256, SHA256_BYTES)),
                           db_text(span_make(k->text, KEY_PREFIX_LEN)),
                           db_int(is_enabled),
                           db_int(now_s),
                           expires};

    return db_exec(db, "key_insert",
                   "INSERT INTO api_keys (tenant, id, sha256, prefix, is_enabled, created_at, expires_at) "
                   "VALUES ($1, $2, "
                   "$3, $4, $5, $6, $7)",
                   v, ARRAY_LEN(v), NULL, err);
}

/* The row of that name gets another id, so that a new one can have the name. */
static enum err_code step_aside(struct db *db, const struct key_call *k, struct err *err)
{
    char old[LIMIT_NAME_BYTES + 32];
    unsigned char bits[6];
    char hex[13];

    random_bytes(bits, sizeof(bits));
    hex_encode(bits, sizeof(bits), hex);
    (void)snprintf(old, sizeof(old), "%s~%s", k->id, hex);
    return db_exec(db, "key_aside", "UPDATE api_keys SET id = $3 WHERE tenant = $1 AND id = $2",
                   (struct db_value[]){db_textz(k->tenant), db_textz(k->id), db_textz(old)}, 3, NULL, err);
}

static enum err_code key_is_live(struct db *db, const struct key_call *k, bool *out, struct err *err)
{
    return call_has_row(db, "key_live",
                        "SELECT 1 FROM api_keys WHERE tenant = $1 AND id = $2 AND revoked_at IS NULL",
                        (struct db_value[]){db_textz(k->tenant), db_textz(k->id)}, 2, out, err);
}

static const struct {
    unsigned field;
    const char *column;
} RATES[] = {{K_RPM, "rpm"}, {K_TPM, "tpm"}, {K_CONCURRENT, "concurrent"}};

/* 0 and null: no limit of its own. */
static void set_rates(struct sets *s, const struct field_value *v)
{
    for (size_t i = 0; i < ARRAY_LEN(RATES); i++)
        if (v[RATES[i].field].is_given)
            sets_add(s, RATES[i].column, v[RATES[i].field].i ? db_int(v[RATES[i].field].i) : db_null());
}

static enum err_code update_key(struct db *db, const struct key_call *k, struct sets *s, struct err *err)
{
    char sql[1200];
    int64_t changed = 0;
    enum err_code e;

    if (!s->n)
        return ERR_OK;
    s->v[s->n] = db_textz(k->tenant);
    s->v[s->n + 1] = db_textz(k->id);
    (void)snprintf(sql, sizeof(sql),
                   "UPDATE api_keys SET %s WHERE tenant = $%u AND id = $%u AND revoked_at IS NULL", s->sql.p,
                   s->n + 1, s->n + 2);
    e = db_exec(db, "key_update", sql, s->v, s->n + 2, &changed, err);
    buf_release(&s->sql);
    return e || changed
               ? e
               : err_set(err, ERR_NOT_FOUND, "key '%s' does not exist, or it is revoked", k->subject);
}

static enum err_code write_new_key(struct db *db, int64_t now_s, void *user, struct err *err)
{
    const struct key_call *k = user;
    const struct field_value *v = k->call.v;
    struct sets rates = {.sql.max = 1024};
    bool found = false;
    enum err_code e = ERR_OK;

    if (!call_tenant(k->call.file, k->tenant)) {
        e = call_has_row(db, "key_tenant",
                         "SELECT 1 FROM tenants WHERE id = $1 AND deleted_at IS NULL AND plan <> ''",
                         (struct db_value[]){db_textz(k->tenant)}, 1, &found, err);
        if (!e && !found)
            return err_set(err, ERR_NOT_FOUND, "tenant '%s' does not exist", k->tenant);
    }
    if (!e)
        e = key_is_live(db, k, &found, err);
    if (!e && found)
        return err_set(err, ERR_CONFLICT, "key '%s' exists", k->subject);
    if (!e)
        e = step_aside(db, k, err);
    if (!e)
        e = insert_key(db, now_s, k, v[K_EXPIRES].i ? db_int(v[K_EXPIRES].i) : db_null(),
                       !v[K_ENABLED].is_given || v[K_ENABLED].i, err);
    set_rates(&rates, v);
    return e ? e : update_key(db, k, &rates, err);
}

void api_key_create(const struct api_request *rq, struct api_reply *reply)
{
    struct key_call k = {0};
    json_t *o;

    if (!call_begin(&k.call, rq, reply, KEY_FIELDS, K_COUNT))
        return;
    name_key(&k, span_of(k.call.v[K_TENANT].text), span_of(k.call.v[K_ID].text));
    mint(&k);
    if (k.of_file)
        (void)call_refuse(&k.call, ERR_CONFLICT, "key '%s' is defined in the file", k.subject);
    else if (k.call.rows->n_keys >= LIMIT_DIRECTORY_ROWS)
        (void)call_refuse(&k.call, ERR_CONFLICT, "there are %u keys, which is the most",
                          LIMIT_DIRECTORY_ROWS);
    else if (call_change(&k.call, "key.create", k.subject, write_new_key)) {
        o = json_minted(&k);
        (void)json_object_set_new(o, "expires_at", json_seconds(k.call.v[K_EXPIRES].i));
        reply->status = 201;
        api_reply_json(reply, o);
    }
    end_key(&k);
}

/* ---- rotating -------------------------------------------------------------------------------------------------------- */

#define CARRIED 4u /* expiry, and the three limits */

static bool take_carried(void *user, const struct db_value *columns, unsigned n)
{
    struct db_value *v = user;

    for (unsigned i = 0; n == CARRIED && i < n; i++)
        if (columns[i].type == DB_INT)
            v[i] = db_int(columns[i].i);
    return false;
}

/* The old text ends now, or at the end of the grace; never later than it would have anyhow. */
static enum err_code end_old(struct db *db, int64_t now_s, const struct key_call *k, struct db_value expires,
                             struct err *err)
{
    int64_t grace_s = k->call.v[R_GRACE].i, end_s = now_s + grace_s;

    if (expires.type == DB_INT && expires.i < end_s)
        end_s = expires.i;
    return db_exec(db, "key_end",
                   grace_s ? "UPDATE api_keys SET expires_at = $3 WHERE tenant = $1 AND id = $2"
                           : "UPDATE api_keys SET revoked_at = $3 WHERE tenant = $1 AND id = $2",
                   (struct db_value[]){db_textz(k->tenant), db_textz(k->id), db_int(grace_s ? end_s : now_s)},
                   3, NULL, err);
}

static enum err_code forget_old(struct db *db, int64_t now_s, const struct key_call *k, struct err *err)
{
    return db_exec(
        db, "key_forget",
        "DELETE FROM api_keys WHERE tenant = $1 AND id LIKE '%~%' AND (revoked_at < $2 OR expires_at < $2)",
        (struct db_value[]){db_textz(k->tenant), db_int(now_s - KEPT_S)}, 2, NULL, err);
}

static enum err_code write_rotation(struct db *db, int64_t now_s, void *user, struct err *err)
{
    const struct key_call *k = user;
    struct db_value carried[CARRIED] = {db_null(), db_null(), db_null(), db_null()};
    struct sets rates = {.sql.max = 1024};
    bool found = false;
    enum err_code e = key_is_live(db, k, &found, err);

    if (!e && !found)
        return err_set(err, ERR_NOT_FOUND, "key '%s' does not exist, or it is revoked", k->subject);
    if (!e)
        e = db_query(db, "key_carried",
                     "SELECT expires_at, rpm, tpm, concurrent FROM api_keys WHERE tenant = $1 AND id = $2",
                     (struct db_value[]){db_textz(k->tenant), db_textz(k->id)}, 2, take_carried, carried,
                     err);
    if (!e)
        e = end_old(db, now_s, k, carried[0], err);
    if (!e)
        e = step_aside(db, k, err);
    if (!e)
        e = insert_key(db, now_s, k, carried[0], true, err);
    for (unsigned i = 1; i < CARRIED; i++)
        sets_add(&rates, RATES[i - 1].column, carried[i]);
    if (!e)
        e = update_key(db, k, &rates, err);
    return e ? e : forget_old(db, now_s, k, err);
}

void api_key_rotate(const struct api_request *rq, struct api_reply *reply)
{
    struct key_call k = {0};
    json_t *o;

    if (!call_begin(&k.call, rq, reply, ROTATE_FIELDS, R_COUNT))
        return;
    if (!path_key(&k, "/rotate")) {
        end_key(&k);
        return;
    }
    mint(&k);
    note_key(&k);
    if (k.of_file)
        (void)call_refuse(&k.call, ERR_CONFLICT, "key '%s' is defined in the file, and is rotated there",
                          k.subject);
    else if (call_change(&k.call, "key.rotate", k.subject, write_rotation)) {
        o = json_minted(&k);
        (void)json_object_set_new(o, "old_ends_at",
                                  json_seconds(wall_now().us / 1000000 + k.call.v[R_GRACE].i));
        api_reply_json(reply, o);
    }
    end_key(&k);
}

/* ---- refusing -------------------------------------------------------------------------------------------------------- */

/* A refusal of the file's key, by its hash. The same hash may have a row already, also of another name. */
static enum err_code refuse_of_file(struct db *db, int64_t now_s, const char *tenant,
                                    const struct config_key *f, bool is_enabled, bool is_revoked,
                                    struct err *err)
{
    char id[LIMIT_NAME_BYTES + 32] = "", hex[17];
    struct db_value v[] = {db_textz(tenant),   db_null(),     db_blob(span_make(f->sha256, SHA256_BYTES)),
                           db_int(is_enabled), db_int(now_s), is_revoked ? db_int(now_s) : db_null()};

    hex_encode(f->sha256, 8, hex);
    (void)snprintf(id, sizeof(id), "%s~%s", f->id, hex);
    v[1] = db_textz(id);
    return db_exec(db, "key_refuse",
                   "INSERT INTO api_keys (tenant, id, sha256, prefix, is_enabled, created_at, revoked_at) "
                   "VALUES ($1, $2, $3, "
                   "'', $4, $5, $6) ON CONFLICT (sha256) DO UPDATE SET is_enabled = $4, revoked_at = "
                   "COALESCE(api_keys.revoked_at, $6)",
                   v, ARRAY_LEN(v), NULL, err);
}

static enum err_code write_update(struct db *db, int64_t now_s, void *user, struct err *err)
{
    const struct key_call *k = user;
    const struct field_value *v = k->call.v;
    struct sets s = {.sql.max = 1024};

    if (k->of_file)
        return refuse_of_file(db, now_s, k->tenant, k->of_file, v[K_ENABLED].i != 0, false, err);
    if (v[K_ENABLED].is_given)
        sets_add(&s, "is_enabled", db_int(v[K_ENABLED].i));
    if (v[K_EXPIRES].is_given)
        sets_add(&s, "expires_at", v[K_EXPIRES].is_null ? db_null() : db_int(v[K_EXPIRES].i));
    set_rates(&s, v);
    return update_key(db, k, &s, err);
}

static bool has_rates(const struct field_value *v)
{
    return v[K_RPM].is_given || v[K_TPM].is_given || v[K_CONCURRENT].is_given;
}

void api_key_update(const struct api_request *rq, struct api_reply *reply)
{
    struct key_call k = {0};
    const struct field_value *v = k.call.v;

    if (!call_begin(&k.call, rq, reply, KEY_FIELDS, K_TENANT))
        return;
    if (!v[K_ENABLED].is_given && !v[K_EXPIRES].is_given && !has_rates(v))
        (void)call_refuse(&k.call, ERR_MISSING_FIELD,
                          "'enabled', 'expires_at', 'rpm', 'tpm' or 'concurrent' is required");
    else if (!path_key(&k, ""))
        (void)0;
    else if (note_key(&k), k.of_file && (v[K_EXPIRES].is_given || has_rates(v) || !v[K_ENABLED].is_given))
        (void)call_refuse(&k.call, ERR_CONFLICT,
                          "key '%s' is defined in the file; only 'enabled' can be changed here", k.subject);
    else if (call_change(&k.call, "key.update", k.subject, write_update))
        reply_key(&k);
    end_key(&k);
}

/* With what was rotated out and is still good. */
static enum err_code revoke_one(struct db *db, int64_t now_s, const struct key_call *k, struct err *err)
{
    char sql[256];
    struct buf old AUTO(buf_release) = {.max = 256};
    int64_t changed = 0;
    enum err_code e;

    buf_addf(&old, "%s~", k->id);
    (void)snprintf(
        sql, sizeof(sql),
        "UPDATE api_keys SET revoked_at = $3 WHERE tenant = $1 AND revoked_at IS NULL AND (id = $2 OR "
        "substr(id, 1, %zu) = $4)",
        old.len);
    e = db_exec(db, "key_revoke", sql,
                (struct db_value[]){db_textz(k->tenant), db_textz(k->id), db_int(now_s), db_textz(old.p)}, 4,
                &changed, err);
    if (!e && k->of_file)
        return refuse_of_file(db, now_s, k->tenant, k->of_file, false, true, err);
    return e || changed
               ? e
               : err_set(err, ERR_NOT_FOUND, "key '%s' does not exist, or it is revoked", k->subject);
}

static enum err_code write_revocation(struct db *db, int64_t now_s, void *user, struct err *err)
{
    const struct key_call *k = user;
    const struct config *file = k->call.file;
    enum err_code e;

    if (k->id[0])
        return revoke_one(db, now_s, k, err);
    e = db_exec(db, "key_revoke_all",
                "UPDATE api_keys SET revoked_at = $2 WHERE tenant = $1 AND revoked_at IS NULL",
                (struct db_value[]){db_textz(k->tenant), db_int(now_s)}, 2, NULL, err);
    for (size_t i = 0; i < file->n_keys && !e; i++)
        if (strcmp(file->keys[i].tenant->id, k->tenant) == 0)
            e = refuse_of_file(db, now_s, k->tenant, &file->keys[i], false, true, err);
    return e;
}

static bool path_key_or_tenant(struct key_call *k)
{
    if (memchr(k->call.rq->tail.p, '/', k->call.rq->tail.len))
        return path_key(k, "");
    if (!value_is_name(k->call.rq->tail))
        return call_refuse(&k->call, ERR_NOT_FOUND, "there is no such tenant");
    name_key(k, k->call.rq->tail, SPAN_LIT(""));
    return call_tenant(k->call.joined, k->tenant) ||
           call_refuse(&k->call, ERR_NOT_FOUND, "tenant '%s' does not exist", k->tenant);
}

void api_key_revoke(const struct api_request *rq, struct api_reply *reply)
{
    struct key_call k = {0};
    json_t *o;

    (void)call_begin(&k.call, rq, reply, NULL, 0);
    if (path_key_or_tenant(&k) && (note_key(&k), true) &&
        call_change(&k.call, k.id[0] ? "key.revoke" : "key.revoke_all", k.subject, write_revocation)) {
        o = json_object();
        (void)json_object_set_new(o, "status", json_string("revoked"));
        (void)json_object_set_new(o, k.id[0] ? "key" : "tenant", json_string(k.subject));
        api_reply_json(reply, o);
    }
    end_key(&k);
}
