/* SPDX-License-Identifier: Apache-2.0 */
/* Reads every record of every journal as a consumer of its own and keeps it in the world. A record that is read again
 * must be the same; a number that was seen already with other content, or a record that is not understood, is a failure
 * of the journal. */
#include <inttypes.h>
#include <string.h>

#include "tests/dst/life.h"

static bool is_same(const struct journal_record *a, const struct journal_record *b)
{
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case JOURNAL_SETTLE:
        return memcmp(&a->settle.rq.id, &b->settle.rq.id, sizeof(struct id)) == 0 &&
               a->settle.rq.cost_nanousd == b->settle.rq.cost_nanousd;
    case JOURNAL_ATTEMPT:
        return memcmp(&a->attempt.context.request, &b->attempt.context.request, sizeof(struct id)) == 0 &&
               a->attempt.a.number == b->attempt.a.number &&
               a->attempt.a.cost_nanousd == b->attempt.a.cost_nanousd;
    case JOURNAL_RESERVE:
    case JOURNAL_PROGRESS:
        return memcmp(&a->open.context.request, &b->open.context.request, sizeof(struct id)) == 0;
    case JOURNAL_ADJUST:
        break;
    }
    return true;
}

static void keep(const struct journal_record *r)
{
    for (size_t i = world->n_records; i-- > 0;) {
        const struct journal_record *had = &world->records[i];

        if (had->worker != r->worker)
            continue;
        if (had->seq == r->seq && !is_same(had, r))
            world_fail("record %" PRIu64 " of worker %u was read twice and differs", r->seq, r->worker);
        if (had->seq == r->seq)
            return;
        if (had->seq < r->seq)
            break;
    }
    if (world->n_records == WORLD_RECORDS)
        world_fail("more records than the driver has room for");
    world->records[world->n_records++] = *r;
    world_trace("tap: worker %u record %" PRIu64 " type %u", r->worker, r->seq, (unsigned)r->type);
}

/* A torn record is told of once, and then it goes on behind it. */
static void read_one(struct journal_cursor *tap)
{
    struct journal_record r;
    struct err err;

    memset(&r, 0, sizeof(r));
    do {
        err.code = ERR_OK;
        while (journal_cursor_read(tap, &r, &err))
            keep(&r);
        if (err.code)
            world_trace("tap: %s", err_text(&err));
    } while (err.code);
    journal_cursor_commit(tap, journal_cursor_position(tap));
}

void tap_read(struct life *l)
{
    for (unsigned i = 0; i < l->n_journals; i++)
        read_one(l->tap[i]);
}
