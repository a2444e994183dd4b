/* SPDX-License-Identifier: Apache-2.0 */
/* Renders the families one after the other: rows of a kind's cells, grouped by the labels that the family
 * has, each child of a row a sample. Api thread; takes no lock that a worker waits for longer than the copy
 * of a key list. */
#include "gatewayd/telemetry/exposition.h"

#include <stdlib.h>

#include "gatewayd/telemetry/projections.h"

#define SERVICE "gatewayd" /* label `service` */

/* Where the value of a label comes from. */
enum source { FROM_PART, FROM_SERVICE, FROM_CHILD };
struct label_source {
    enum source from;
    unsigned part;
};

/* The rows of one family: the cells' own or, when the family lacks parts of their key, groups of them. */
struct rows {
    size_t n;
    const cells_key *keys;
    const uint64_t *values; /* of row i: values + i * stride, n_children of them */
    size_t stride;
    cells_key *own_keys;
    uint64_t *own_values;
};

struct render {
    struct lines lines;
    struct scrape scrape;
    struct label_source sources[METRIC_LABELS_MAX];
    cells_key mask; /* of the parts that the family has */
};

/* ---- series that exist from the first scrape ---- */

#define ZERO_TENANT_SERIES 1500 /* tenants times targets is written out only while it stays modest */

static void admit(enum facts_kind k, unsigned a, unsigned b, unsigned c, unsigned d)
{
    cells_admit_mt(k, cells_key_of(a, b, c, d));
}

static void zero_http(void)
{
    static const unsigned STATUS[] = {200, 400, 401, 429, 499, 500, 502, 503, 504};

    for (int op = 0; op < OP_COUNT; op++) {
        const struct operation_row *row = operation_row((enum operation)op);
        label method = intern_z(row->body == BODY_NONE ? "GET" : "POST");

        for (size_t i = 0; i < ARRAY_LEN(STATUS); i++)
            admit(KIND_HTTP, method, intern_z(row->path), STATUS[i], 0);
    }
}

/* Provider and model; a provider without configured models has 0 for the model, and no series per model. */
static void zero_target(const struct metrics_label_set *t)
{
    admit(KIND_PROVIDER, t->provider, 0, 0, 0);
    admit(KIND_ATTEMPT, t->provider, t->model, 0, 0);
    for (unsigned type = 0; type < ERROR_TYPE_COUNT; type++)
        admit(KIND_ATTEMPT_ERROR, t->provider, type, 0, 0);
    if (!t->model)
        return;
    admit(KIND_MODEL, t->model, 0, 0, 0);
    for (unsigned end = STREAM_COMPLETE; end < STREAM_END_COUNT; end++)
        admit(KIND_STREAM, t->provider, t->model, end, 0);
}

static void zero_tenant(label tenant, const struct metrics_state *state)
{
    label none = intern(SPAN_LIT("none"));

    admit(KIND_REQUEST, tenant, none, none, STATUS_REJECTED);
    for (size_t i = 0; i < state->n_targets; i++)
        for (unsigned s = 0; s < STATUS_REJECTED && state->targets[i].model; s++)
            admit(KIND_REQUEST, tenant, state->targets[i].provider, state->targets[i].model, s);
}

static void zero_init(const struct metrics_state *state)
{
    zero_http();
    for (size_t i = 0; i < state->n_targets; i++)
        zero_target(&state->targets[i]);
    if (state->n_tenants * (1 + state->n_targets * STATUS_REJECTED) > ZERO_TENANT_SERIES)
        return;
    for (size_t i = 0; i < state->n_tenants; i++)
        zero_tenant(state->tenants[i], state);
}

/* ---- labels and groups ---- */

static bool is_part(const struct kind_row *kind, unsigned part, const char *label_name)
{
    if (!kind->parts[part].name)
        return false;
    /* `path` is the route template too: another name of `endpoint`. */
    if (strcmp(label_name, "path") == 0)
        label_name = "endpoint";
    return strcmp(kind->parts[part].name, label_name) == 0;
}

static void find_sources(struct render *r, const struct metric_row *row, enum facts_kind k)
{
    r->mask = 0;
    for (size_t i = 0; i < row->n_labels; i++) {
        struct label_source *s = &r->sources[i];

        s->from = strcmp(row->labels[i], "service") == 0 ? FROM_SERVICE : FROM_CHILD;
        for (unsigned p = 0; p < KIND_PARTS; p++) {
            if (!is_part(kind_row(k), p, row->labels[i]))
                continue;
            *s = (struct label_source){FROM_PART, p};
            r->mask |= (cells_key)0xffff << (16 * kind_part(p));
        }
    }
}

static void series(struct render *r, enum facts_kind k, cells_key key, const char *child)
{
    struct span values[METRIC_LABELS_MAX];
    char tmp[METRIC_LABELS_MAX][8];

    for (size_t i = 0; i < r->lines.row->n_labels; i++) {
        unsigned p = r->sources[i].part;

        if (r->sources[i].from == FROM_PART)
            values[i] =
                part_text(&r->lines, kind_row(k)->parts[p].form, cells_part(key, kind_part(p)), tmp[i]);
        else
            values[i] = r->sources[i].from == FROM_SERVICE ? SPAN_LIT(SERVICE) : span_of(child);
    }
    lines_series(&r->lines, values);
}

/* Facts never have an empty label; a series that exists from the start may have one, and then is not this family's. */
static bool lacks_label(const struct render *r, enum facts_kind k, cells_key key)
{
    for (unsigned p = 0; p < CELLS_PARTS; p++)
        if (kind_row(k)->parts[p].form == PART_LABEL && cells_part(r->mask, p) && !cells_part(key, p))
            return true;
    return false;
}

/* The parts of a key that a kind uses at all. */
static cells_key whole_key(enum facts_kind k)
{
    cells_key mask = 0;

    for (unsigned p = 0; p < CELLS_PARTS; p++)
        if (kind_row(k)->parts[p].name)
            mask |= (cells_key)0xffff << (16 * p);
    return mask;
}

/* Index of the group in `own_keys`, found by hash; `table` holds index + 1. */
static size_t group_of(struct rows *rows, uint32_t *table, unsigned bits, cells_key key)
{
    size_t mask = ((size_t)1 << bits) - 1;
    size_t i = cells_hash(key, 64 - bits);

    for (; table[i]; i = (i + 1) & mask)
        if (rows->own_keys[table[i] - 1] == key)
            return table[i] - 1;
    rows->own_keys[rows->n] = key;
    table[i] = (uint32_t)++rows->n;
    return rows->n - 1;
}

/* Children without a name are added up. */
static bool group(struct rows *rows, const struct snapshot_kind *k, const struct projection *p,
                  cells_key mask)
{
    unsigned words = p->n_children ? p->n_children : 1;
    unsigned stride = p->child_name ? words : 1;
    unsigned bits = 6;
    uint32_t *table;

    while (((size_t)1 << bits) < 2 * k->n)
        bits++;
    table = calloc((size_t)1 << bits, sizeof(*table));
    rows->own_keys = calloc(k->n ? k->n : 1, sizeof(*rows->own_keys));
    rows->own_values = calloc(k->n ? k->n : 1, stride * sizeof(*rows->own_values));
    for (size_t i = 0; table && rows->own_keys && rows->own_values && i < k->n; i++) {
        uint64_t *into = rows->own_values + group_of(rows, table, bits, k->keys[i] & mask) * stride;

        if (p->from_status && cells_part(k->keys[i], 2) < p->from_status)
            continue; /* its group exists all the same */
        for (unsigned w = 0; w < words; w++)
            into[p->child_name ? w : 0] += snapshot_words(k, i)[p->word + w];
    }
    free(table);
    rows->keys = rows->own_keys;
    rows->values = rows->own_values;
    rows->stride = stride;
    return rows->n > 0;
}

static void rows_release(struct rows *rows)
{
    free(rows->own_keys);
    free(rows->own_values);
}

/* ---- the measures ---- */

static void render_words(struct render *r, const struct projection *p)
{
    const struct snapshot_kind *k = snapshot_kind(r->scrape.snapshot, p->kind);
    struct rows rows AUTO(rows_release) = {
        .n = k->n, .keys = k->keys, .values = k->words + p->word, .stride = k->n_words};
    unsigned n = p->child_name ? p->n_children : 1;

    if (r->mask != whole_key(p->kind) || (p->n_children && !p->child_name)) {
        rows = (struct rows){0};
        if (!group(&rows, k, p, r->mask))
            return;
    }
    for (size_t i = 0; i < rows.n; i++) {
        for (unsigned c = 0; c < n; c++) {
            uint64_t v = rows.values[i * rows.stride + c];

            if ((!v && !r->lines.row->is_zero_init) || lacks_label(r, p->kind, rows.keys[i]))
                continue;
            series(r, p->kind, rows.keys[i], p->child_name ? p->child_name(c) : "");
            lines_number(&r->lines, p->unit, v);
        }
    }
}

static void render_histogram(struct render *r, const struct projection *p)
{
    const struct snapshot_kind *k = snapshot_kind(r->scrape.snapshot, p->kind);
    const struct metric_bounds *b = metric_bounds(r->lines.row->buckets);
    bool has_exemplars = p->exemplars_offset && r->lines.format == EXPOSITION_OPENMETRICS;

    for (size_t i = 0; i < k->n; i++) {
        const uint64_t *sum = snapshot_words(k, i) + p->word;
        const uint64_t *n = sum + 1;
        struct latest exemplars[METRIC_BUCKETS_MAX + 1] = {0};
        uint64_t count = 0;

        for (size_t j = 0; j <= b->n; j++) {
            count += n[j];
            if (has_exemplars && n[j])
                (void)snapshot_exemplar(r->scrape.snapshot, k, i,
                                        p->exemplars_offset + j * sizeof(struct exemplar), &exemplars[j]);
        }
        if (!count && !r->lines.row->is_zero_init)
            continue;
        series(r, p->kind, k->keys[i], "");
        lines_histogram(&r->lines, b, n, *sum, has_exemplars ? exemplars : NULL);
    }
}

static void render_window(struct render *r, const struct projection *p)
{
    const struct snapshot_kind *k = snapshot_kind(r->scrape.snapshot, p->kind);

    for (size_t i = 0; i < k->n; i++) {
        series(r, p->kind, k->keys[i], "");
        lines_double(&r->lines, *(const double *)((const char *)&k->stats[i] + p->window_offset));
    }
}

static void render_family(struct render *r, enum metric m)
{
    const struct projection *p = projection(m);

    lines_family(&r->lines, m);
    if (p->measure != MEASURE_STATE)
        find_sources(r, metric_row(m), p->kind);
    switch (p->measure) {
    case MEASURE_WORDS:
        render_words(r, p);
        break;
    case MEASURE_HISTOGRAM:
        render_histogram(r, p);
        break;
    case MEASURE_WINDOW:
        render_window(r, p);
        break;
    case MEASURE_STATE:
        p->state(&r->lines, &r->scrape);
        break;
    }
}

void exposition_render(struct buf *out, enum exposition_format format, struct facts *const *workers,
                       size_t n_workers, const struct metrics_state *state)
{
    struct snapshot snapshot;
    struct render r = {.scrape = {.state = state, .snapshot = &snapshot}};

    zero_init(state);
    snapshot_init(&snapshot, workers, n_workers, state->now);
    snapshot.slots = window_slots_since(state->windows_since, state->now);
    process_read("", &r.scrape.process);
    lines_init(&r.lines, out, format);
    for (int m = 0; m < METRIC_COUNT; m++)
        if (metric_is_shown(metric_row((enum metric)m), state->profiles))
            render_family(&r, (enum metric)m);
    lines_end(&r.lines);
    lines_release(&r.lines);
    snapshot_release(&snapshot);
}
