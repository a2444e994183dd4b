/* SPDX-License-Identifier: Apache-2.0 */
/* The thread of breaker_share.c, turn by turn. */
#include "tests/dst/guards/share_step.h"

#include "gatewayd/books/breaker_share.c"

struct breaker_share *share_open(struct breakers *b, const char *node, bool restores)
{
    struct breaker_share *s = calloc(1, sizeof(*s));

    if (!s)
        abort();
    *s = (struct breaker_share){.breakers = b, .kv = store_kv(), .db = store_db()};
    (void)snprintf(s->node, sizeof(s->node), "%s", node);
    if (restores)
        restore(s);
    s->has_restored |= !restores;
    (void)sync_once(s);
    return s;
}

int64_t share_turn(struct breaker_share *s, bool is_deaf)
{
    struct err err;

    if (is_deaf)
        return tell(s, &err) ? REST_US : SYNC_US;
    if (!s->has_restored)
        restore(s);
    return sync_once(s);
}

bool share_has_restored(const struct breaker_share *s)
{
    return s->has_restored;
}

void share_close(struct breaker_share *s)
{
    forget_names(s);
    kv_free(s->kv);
    db_free(s->db);
    free(s);
}

bool share_keep(label provider, label model, const struct breaker_forced *f)
{
    struct db *db = store_db();
    struct err err = {0};
    enum err_code e = breaker_keep(db, provider, model, f, &err);

    db_free(db);
    return e == ERR_OK;
}
