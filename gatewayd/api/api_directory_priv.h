/* SPDX-License-Identifier: Apache-2.0 */
/* What the calls on tenants, keys, plans and budgets share. A call runs on the directory's thread from beginning to end. */
#ifndef API_DIRECTORY_PRIV_H
#define API_DIRECTORY_PRIV_H

#include "gatewayd/api/fields.h"
#include "gatewayd/api/handlers_priv.h"
#include "gatewayd/directory/directory.h"
#include "gatewayd/resilience/budget.h"

struct call {
    const struct api_request *rq;
    struct api_reply *reply;
    struct directory *d;
    const struct directory_rows
        *rows;             /* as the database has it now, or had it last; new after call_change() */
    struct config *file;   /* what the file defines */
    struct config *joined; /* what requests use; new after call_change() */
    json_t *body;
    struct field_value v[FIELDS_MAX];
    const char *reason;
    json_t *detail;                     /* of the audit row: begins with what was asked for */
    char id[2 * LIMIT_NAME_BYTES + 16]; /* what the path names */
    bool is_dry;                        /* ?dry_run=true: answer what would be, and do nothing */
    struct directory_would would;       /* then, after call_change() */
    struct budget_sums resets;          /* of a budget: the window that is reset, with what was spent in it */
    struct budget_mark mark;            /* of that window, and */
    bool has_mark;                      /* the books have it */
    struct err err;
};

/* Begins the call and reads the body by `fields` (n 0: there is no body; the reason is in the query). False: it has replied. */
bool call_begin(struct call *c, const struct api_request *rq, struct api_reply *reply,
                const struct field *fields, size_t n);
void call_end(struct call *c);
/* Replies with the code and c->err's text. */
void call_fail(struct call *c, enum err_code e);
/* Replies with the code and this text, and returns false. */
bool call_refuse(struct call *c, enum err_code e, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* True when it is done; else it has replied. When c->is_dry it is true where it could be done, c->rows and c->joined are as they would
 * be, and what the caller does beside the database is the caller's to leave out; call_end() marks the reply. */
bool call_change(struct call *c, const char *action, const char *subject,
                 enum err_code (*write)(struct db *db, int64_t now_s, void *user, struct err *err));

/* What is there before the change, for the audit log and for a dry run. */
void call_note_was(struct call *c, json_t *was);

/* The name that the path ends with, in c->id; NULL after a reply. */
const char *call_path_id(struct call *c, const char *what);
void call_reply_deleted(struct call *c, const char *what, const char *id);
const struct config_tenant *call_tenant(const struct config *c, const char *id);
/* In the transaction: whether the query has a row. */
NODISCARD enum err_code call_has_row(struct db *db, const char *what, const char *sql,
                                     const struct db_value *params, unsigned n, bool *out, struct err *err);

/* UPDATE with only the columns that were given. Column names are literals. */
struct sets {
    struct buf sql;
    struct db_value v[FIELDS_MAX + 4];
    unsigned n;
};
void sets_add(struct sets *s, const char *column, struct db_value v);

json_t *json_seconds(int64_t s); /* RFC 3339; 0 is null */
json_t *json_budget(const struct config_budget *b);
/* '' for all, else a JSON array; malloc'ed. */

#define FIELD_REASON                                                                                         \
    {                                                                                                        \
        .name = "reason", .type = FIELD_TEXT, .max = 512                                                     \
    }

#endif
