/* SPDX-License-Identifier: Apache-2.0 */
/* Prices and what an answer costs.
 * Thread: a table is built by whoever loads a configuration and is read-only afterwards, so any thread may
 * search it. Ownership: built-in names are literals, names from a price file are copies that the table owns.
 * Invariant: once built, rows are sorted by provider and model and unique; a row of the file replaces the
 * built-in one. Tricky: price_cost_nanousd() must neither underflow on classes that do not add up nor
 * overflow on absurd counts. */
#include "gatewayd/provider/pricing.h"

#include <stdlib.h>

#include "gatewayd/provider/pricing_priv.h"

struct builtin {
    const char *provider, *model;
    int64_t tokens[4]; /* input, cached input, cache write, output */
    uint64_t context, max_output;
};

static const struct builtin BUILTIN[] = {
#define PRICES(...)                                                                                          \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }
#define MODEL(provider, model, prices, context, max_output) {provider, model, prices, context, max_output},
#include "libshared/catalog/models.def"
#undef MODEL
#undef PRICES
};

static int compare_spans(struct span a, struct span b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n ? memcmp(a.p, b.p, n) : 0;

    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_rows(const void *left, const void *right)
{
    const struct price_row *a = left, *b = right;
    int order = compare_spans(a->provider, b->provider);

    return order ? order : compare_spans(a->model, b->model);
}

static const struct price_row *find_row(const struct price_table *t, struct span provider, struct span model)
{
    struct price_row key = {.provider = provider, .model = model};

    return t->n ? bsearch(&key, t->rows, t->n, sizeof(t->rows[0]), compare_rows) : NULL;
}

static int compare_rows_then_origin(const void *left, const void *right)
{
    const struct price_row *a = left, *b = right;
    int order = compare_rows(a, b);

    return order ? order : (a->owned_names != NULL) - (b->owned_names != NULL);
}

static const struct price PRICE_UNKNOWN = {.input = -1,
                                           .cached = -1,
                                           .cache_write = -1,
                                           .output = -1,
                                           .reasoning = -1,
                                           .per_image = -1,
                                           .per_search = -1};

static enum err_code grow(struct price_table *t, size_t cap, struct err *err)
{
    struct price_row *rows = realloc(t->rows, cap * sizeof(t->rows[0]));

    if (!rows)
        return err_set(err, ERR_NO_MEMORY, "no memory for the price table");
    t->rows = rows;
    t->cap = cap;
    return ERR_OK;
}

enum err_code price_table_put(struct price_table *t, struct price_row *row, struct err *err)
{
    enum err_code code = t->n < t->cap ? ERR_OK : grow(t, t->cap * 2, err);

    if (code != ERR_OK)
        return code;
    t->rows[t->n++] = *row;
    *row = (struct price_row){0};
    return ERR_OK;
}

static enum err_code put_builtin(struct price_table *t, struct err *err)
{
    enum err_code code = grow(t, ARRAY_LEN(BUILTIN) * 2, err);

    for (size_t i = 0; code == ERR_OK && i < ARRAY_LEN(BUILTIN); i++) {
        const struct builtin *b = &BUILTIN[i];
        struct price_row row = {
            .provider = span_of(b->provider), .model = span_of(b->model), .price = PRICE_UNKNOWN};

        row.price.input = b->tokens[0];
        row.price.cached = b->tokens[1];
        row.price.cache_write = b->tokens[2];
        row.price.output = b->tokens[3];
        row.price.context_tokens = b->context;
        row.price.max_output_tokens = b->max_output;
        code = price_table_put(t, &row, err);
    }
    return code;
}

static bool is_same_model(const struct price_row *a, const struct price_row *b)
{
    return span_eq(a->provider, b->provider) && span_eq(a->model, b->model);
}

/* Sorts, and lets a row of the file take the place of the built-in row that sorts before it. */
static enum err_code settle_rows(struct price_table *t, struct err *err)
{
    size_t kept = 0;

    qsort(t->rows, t->n, sizeof(t->rows[0]), compare_rows_then_origin);
    for (size_t i = 1; i < t->n; i++)
        if (is_same_model(&t->rows[i - 1], &t->rows[i]) && t->rows[i - 1].owned_names)
            return err_set(err, ERR_CONFIG, "'%.*s/%.*s' is priced twice", (int)t->rows[i].provider.len,
                           t->rows[i].provider.p, (int)t->rows[i].model.len, t->rows[i].model.p);
    for (size_t i = 0; i < t->n; i++) {
        if (kept && is_same_model(&t->rows[kept - 1], &t->rows[i]))
            kept--;
        t->rows[kept++] = t->rows[i];
    }
    t->n = kept;
    return ERR_OK;
}

struct price_table *price_table_new(const char *path_or_null, struct err *err)
{
    struct price_table *t = calloc(1, sizeof(*t));

    if (!t) {
        (void)err_set(err, ERR_NO_MEMORY, "no memory for the price table");
        return NULL;
    }
    if (put_builtin(t, err) != ERR_OK || (path_or_null && price_file_load(t, path_or_null, err) != ERR_OK) ||
        settle_rows(t, err) != ERR_OK) {
        price_table_free(t);
        return NULL;
    }
    return t;
}

void price_table_free(struct price_table *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n; i++)
        free(t->rows[i].owned_names);
    free(t->rows);
    free(t);
}

static bool all_digits(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] < '0' || p[i] > '9')
            return false;
    return true;
}

/* The name without a trailing -YYYY-MM-DD, -YYYYMMDD or @YYYYMMDD. Shorter numbers such as -2508 name a model
 * of its own, with a price of its own, so they stay. */
static struct span without_date(struct span model)
{
    const char *end = model.p + model.len;

    if (model.len > 11 && end[-11] == '-' && end[-6] == '-' && end[-3] == '-' && all_digits(end - 10, 4) &&
        all_digits(end - 5, 2) && all_digits(end - 2, 2))
        return span_make(model.p, model.len - 11);
    if (model.len > 9 && (end[-9] == '-' || end[-9] == '@') && all_digits(end - 8, 8) && end[-8] == '2')
        return span_make(model.p, model.len - 9);
    return (struct span){NULL, 0};
}

static const struct price_row *find_dated(const struct price_table *t, struct span provider,
                                          struct span model)
{
    const struct price_row *row;
    struct span plain;

    if (!t)
        return NULL;
    row = find_row(t, provider, model);
    if (row)
        return row;
    plain = without_date(model);
    return plain.len ? find_row(t, provider, plain) : NULL;
}

const struct price *price_find(const struct price_table *t, struct span provider, struct span model)
{
    const struct price_row *row = find_dated(t, provider, model);
    bool is_priced = row && row->price.input >= 0 && (row->price.output >= 0 || row->price.per_image >= 0);

    return is_priced ? &row->price : NULL;
}

bool price_is_known_model(const struct price_table *t, struct span provider, struct span model)
{
    return find_dated(t, provider, model) != NULL;
}

/* No sum is carried past this: it is the first amount that saturates the result. */
#define PICO_CEILING ((unsigned __int128)PRICE_COST_MAX_NANOUSD * 1000u)

static unsigned __int128 pico_add(unsigned __int128 sum, uint64_t count, int64_t price)
{
    unsigned __int128 part;

    if (price <= 0)
        return sum;
    part = (unsigned __int128)count * (uint64_t)price; /* below 2^127 */
    if (part > PICO_CEILING || sum > PICO_CEILING - part)
        return PICO_CEILING;
    return sum + part;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

int64_t price_cost_nanousd(const struct price *p, const struct usage *u)
{
    uint64_t cached = min_u64(u->cached, u->input);
    uint64_t written = min_u64(u->cache_write, u->input - cached);
    uint64_t reasoning = p->reasoning >= 0 ? min_u64(u->reasoning, u->output) : 0;
    int64_t output = p->output >= 0 ? p->output : p->input; /* unknown is never free */
    unsigned __int128 pico = 0;

    pico = pico_add(pico, u->input - cached - written, p->input);
    pico = pico_add(pico, cached, p->cached >= 0 ? p->cached : p->input);
    pico = pico_add(pico, written, p->cache_write >= 0 ? p->cache_write : p->input);
    /* A model that is paid by the image says its tokens are within that price when it has no output price. */
    if (p->output >= 0 || p->per_image < 0)
        pico = pico_add(pico, u->output - reasoning, output);
    pico = pico_add(pico, reasoning, p->reasoning);
    pico = pico_add(pico, u->images, p->per_image);
    pico = pico_add(pico, u->searches, p->per_search);
    return (int64_t)((pico + 999u) / 1000u);
}
