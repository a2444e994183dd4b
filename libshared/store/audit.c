/* SPDX-License-Identifier: Apache-2.0 */
/* On the thread that owns the handle. The row 'audit' of the settings is written first: that takes its lock, so two nodes
 * never continue from the same row. */
#include "libshared/store/audit.h"

#include <assert.h>
#include <stdlib.h>

enum err_code audit_hash(const unsigned char previous[SHA256_BYTES], const struct audit_row *row,
                         unsigned char out[SHA256_BYTES], struct err *err)
{
    struct buf b AUTO(buf_release) = {.max = 1 << 20};
    json_t *o = json_pack("{s:s, s:s, s:I, s:O, s:s}", "action", row->action, "actor", row->actor, "at",
                          (json_int_t)(row->at.us / 1000000), "detail", row->detail, "subject", row->subject);
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    enum err_code e = text ? ERR_OK : err_set(err, ERR_BAD_REQUEST, "the audit row is not UTF-8 text");

    if (!e)
        e = buf_append(&b, previous, SHA256_BYTES);
    if (!e)
        e = buf_append(&b, text, strlen(text));
    if (!e)
        sha256(buf_span(&b), out);
    free(text);
    json_decref(o);
    return e;
}

static bool take_hash(void *user, const struct db_value *columns, unsigned n)
{
    if (n == 1 && columns[0].type == DB_BLOB && columns[0].s.len == SHA256_BYTES)
        memcpy(user, columns[0].s.p, SHA256_BYTES);
    return false;
}

enum err_code audit_append(struct db *db, const struct audit_row *row, struct err *err)
{
    unsigned char previous[SHA256_BYTES] = {0}, hash[SHA256_BYTES];
    char *detail;
    enum err_code e;

    assert(db_in_transaction(db));
    e = db_exec(
        db, "audit_lock",
        "INSERT INTO settings (name, value) VALUES ('audit', '') ON CONFLICT (name) DO UPDATE SET value = ''",
        NULL, 0, NULL, err);
    if (!e)
        e = db_query(db, "audit_last", "SELECT hash FROM audit ORDER BY id DESC LIMIT 1", NULL, 0, take_hash,
                     previous, err);
    if (!e)
        e = audit_hash(previous, row, hash, err);
    if (e)
        return e;
    detail = json_dumps(row->detail, JSON_COMPACT | JSON_SORT_KEYS);
    if (!detail)
        return err_set(err, ERR_NO_MEMORY, "no memory for an audit row");
    e = db_exec(
        db, "audit_insert",
        "INSERT INTO audit (at, actor, action, subject, detail, hash) VALUES ($1, $2, $3, $4, $5, $6)",
        (struct db_value[]){db_int(row->at.us / 1000000), db_textz(row->actor), db_textz(row->action),
                            db_textz(row->subject), db_textz(detail), db_blob(span_make(hash, SHA256_BYTES))},
        6, NULL, err);
    free(detail);
    return e;
}

/* ---- proof --------------------------------------------------------------------------------------------------------- */

#define PROOF_ROWS 2000

struct proof {
    struct audit_proof *out;
    unsigned n; /* rows of this slice */
};

static char *text_of(const struct db_value *v)
{
    char *z = malloc(v->s.len + 1);

    if (!z)
        abort();
    (void)span_copy(z, v->s.len + 1, v->s);
    return z;
}

/* id, at, actor, action, subject, detail, hash */
static bool prove_row(void *user, const struct db_value *c, unsigned n)
{
    struct proof *p = user;
    unsigned char hash[SHA256_BYTES];
    char *actor = text_of(&c[2]), *action = text_of(&c[3]), *subject = text_of(&c[4]);
    json_t *detail = json_loadb(c[5].s.p ? c[5].s.p : "", c[5].s.len, 0, NULL);
    struct audit_row row = {
        .at = {c[1].i * 1000000}, .actor = actor, .action = action, .subject = subject, .detail = detail};
    bool is_whole = n == 7 && detail && c[6].type == DB_BLOB && c[6].s.len == SHA256_BYTES &&
                    audit_hash(p->out->last_hash, &row, hash, NULL) == ERR_OK &&
                    memcmp(hash, c[6].s.p, SHA256_BYTES) == 0;

    p->n++;
    p->out->rows++;
    p->out->last_id = c[0].i;
    if (is_whole)
        memcpy(p->out->last_hash, hash, SHA256_BYTES);
    else
        p->out->broken_id = c[0].i;
    json_decref(detail);
    free(actor);
    free(action);
    free(subject);
    return is_whole;
}

enum err_code audit_verify(struct db *db, struct audit_proof *out, struct err *err)
{
    struct proof p = {.out = out, .n = PROOF_ROWS};
    enum err_code e = ERR_OK;

    *out = (struct audit_proof){0};
    while (!e && p.n == PROOF_ROWS && !out->broken_id) {
        p.n = 0;
        e = db_query(
            db, "audit_verify",
            "SELECT id, at, actor, action, subject, detail, hash FROM audit WHERE id > $1 ORDER BY id "
            "LIMIT 2000",
            (struct db_value[]){db_int(out->last_id)}, 1, prove_row, &p, err);
    }
    return e;
}
