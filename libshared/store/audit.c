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
