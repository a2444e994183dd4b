/* SPDX-License-Identifier: Apache-2.0 */
/* Takes samples in and says how fresh they are. The screen's thread. Entities stay where they are, since rows point to them. */
#include "aigwtop/model/model.h"

#include <math.h>

#include "libshared/base/span.h"

#define ENTITIES_MAX 20000u

struct model *model_new(struct mono now)
{
    struct model *m = calloc(1, sizeof(*m));

    if (!m)
        abort();
    m->began = now;
    m->lists = sample_new();
    m->gateway_per_s = NAN;
    entity_init(&m->all, "", "");
    return m;
}

static void drop_entities(struct model *m)
{
    for (size_t i = 0; i < m->entities.n; i++) {
        entity_release(m->entities.v[i]);
        free(m->entities.v[i]);
    }
    LIST_RELEASE(&m->entities);
}

void model_free(struct model *m)
{
    if (!m)
        return;
    drop_entities(m);
    entity_release(&m->all);
    sample_free(m->lists);
    free(m);
}

void model_clear(struct model *m, struct mono now)
{
    drop_entities(m);
    entity_release(&m->all);
    sample_free(m->lists);
    *m = (struct model){.began = now, .lists = sample_new(), .gateway_per_s = NAN};
    entity_init(&m->all, "", "");
}

/* ---- entities, in order ---------------------------------------------------------------------------------------------- */

static int compare(const struct entity *e, const char *provider, const char *model)
{
    int order = strcmp(e->provider, provider);

    return order ? order : strcmp(e->model, model);
}

static size_t place_of(const struct model *m, const char *provider, const char *model)
{
    size_t low = 0, high = m->entities.n;

    while (low < high) {
        size_t mid = (low + high) / 2;

        if (compare(m->entities.v[mid], provider, model) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct entity *model_find(const struct model *m, const char *provider, const char *model)
{
    size_t i = place_of(m, provider, model);

    return i < m->entities.n && compare(m->entities.v[i], provider, model) == 0 ? m->entities.v[i] : NULL;
}

static struct entity *entity_of(struct model *m, const struct sample_row *r)
{
    size_t i = place_of(m, r->provider, r->model);
    struct entity *e;

    if (i < m->entities.n && compare(m->entities.v[i], r->provider, r->model) == 0)
        return m->entities.v[i];
    if (m->entities.n >= ENTITIES_MAX)
        return NULL;
    e = malloc(sizeof(*e));
    if (!e)
        abort();
    entity_init(e, r->provider, r->model);
    (void)LIST_ADD(&m->entities);
    memmove(m->entities.v + i + 1, m->entities.v + i, (m->entities.n - 1 - i) * sizeof(*m->entities.v));
    m->entities.v[i] = e;
    return e;
}

/* ---- taking in ------------------------------------------------------------------------------------------------------- */

/* Lists change hands, those of the sample that are new for ours that are old; its rows are read where they lie. */
static void take_lists(struct model *m, struct sample *s)
{
    struct sample *lists = m->lists;
    unsigned fresh = s->has & ~(unsigned)HAS_ROWS;

#define SAMPLE_LIST(list, one, bit)                                                                          \
    if (fresh & HAS_##bit) {                                                                                 \
        __typeof__(lists->list) old = lists->list;                                                           \
                                                                                                             \
        lists->list = s->list;                                                                               \
        s->list = old;                                                                                       \
    }
#include "aigwtop/source/lists.def"
#undef SAMPLE_LIST
    lists->has |= s->has;
}

static void take_requests(struct model *m, const struct sample *s)
{
    double took = (double)(s->now.us - m->requests_at_us) / 1e6;

    if (s->requests < 0)
        m->gateway_per_s = NAN;
    else if (m->requests_at_us && took > 0 && s->requests >= m->requests)
        m->gateway_per_s = (double)(s->requests - m->requests) / took;
    m->requests = s->requests;
    m->requests_at_us = s->requests < 0 ? 0 : s->now.us;
}

static void take_rows(struct model *m, struct sample *s)
{
    for (size_t i = 0; i < s->rows.n; i++) {
        struct entity *e = entity_of(m, &s->rows.v[i]);

        if (!e)
            continue;
        entity_absorb(e, &s->rows.v[i], s->now);
        e->seen = m->n_samples;
    }
    entity_clear(&m->all);
    for (size_t i = 0; i < m->entities.n; i++) {
        entity_compute(m->entities.v[i], s->now);
        if (!m->entities.v[i]->model[0])
            entity_add(&m->all, m->entities.v[i]);
    }
    entity_compute(&m->all, s->now);
}

static void take_head(struct model *m, const struct sample *s)
{
    m->head = *s;
#define SAMPLE_LIST(list, one, bit) memset(&m->head.list, 0, sizeof(m->head.list));
#include "aigwtop/source/lists.def"
#undef SAMPLE_LIST
}

void model_absorb(struct model *m, struct sample *s, struct mono now)
{
    struct wall beat = m->head.beat;

    m->n_samples++;
    take_head(m, s);
    m->at = now;
    if (s->state == SOURCE_LIVE || s->state == SOURCE_EMPTY) {
        if (!m->head.beat.us)
            m->head.beat = beat; /* its heartbeat is gone; when it last was there still tells */
        m->has_live = true;
        m->live_at = now;
        m->live_now = s->now;
        take_requests(m, s);
        take_rows(m, s);
        take_lists(m, s);
    } else {
        m->head.beat = beat;
    }
    sample_free(s);
}

/* ---- freshness ------------------------------------------------------------------------------------------------------- */

struct wall model_now(const struct model *m, struct mono now)
{
    if (m->has_live)
        return (struct wall){m->live_now.us + mono_diff_us(now, m->live_at)};
    return m->head.now;
}

/* A store that answers while no heartbeat is younger than half a minute. Without any heartbeat the newest traffic counts. */
static bool has_writer(const struct model *m, struct wall now, int64_t *out_age_us)
{
    int64_t last = m->head.beat.us;

    if (!last)
        last = m->all.figures.active_us;
    *out_age_us = last ? now.us - last : 0;
    return last && *out_age_us <= SILENT_US;
}

struct fresh model_fresh(const struct model *m, struct mono now, int64_t interval_ms)
{
    int64_t late_us = mono_diff_us(now, m->at), silent_us = 0;
    struct fresh f = {.age_us = mono_diff_us(now, m->has_live ? m->live_at : m->began)};

    f.retry_us = m->head.retry_in_ms * 1000 - late_us;
    f.retry_us = f.retry_us < 0 ? 0 : f.retry_us;
    if (!m->n_samples)
        f.kind = FRESH_WAITING;
    else if (m->head.state == SOURCE_AUTH)
        f.kind = FRESH_AUTH;
    else if (m->head.state == SOURCE_DOWN)
        f.kind = FRESH_STALE;
    else if (m->head.state == SOURCE_EMPTY)
        f.kind = FRESH_EMPTY;
    else if (late_us > 3 * interval_ms * 1000 + 500000)
        f.kind = FRESH_SLOW;
    else if (!has_writer(m, m->live_now, &silent_us)) {
        f.kind = FRESH_NO_WRITER;
        f.age_us = silent_us + late_us;
    } else
        f.kind = FRESH_LIVE;
    return f;
}
