/* SPDX-License-Identifier: Apache-2.0 */
/* Expands options.def. Pure: nothing here reads a file or the environment. */
#include "gatewayd/config/options.h"

#include <stdio.h>

#include "gatewayd/config/config_priv.h"

#define IN(type, member) .offset = offsetof(struct type, member), .width = sizeof(((struct type *)0)->member)
#define LIST_IN(type, member, count)                                                                         \
    .offset = offsetof(struct type, member), .n_offset = offsetof(struct type, count)
#define MSEC(n)  ((int64_t)(n)*1000)
#define HOURS(n) ((int64_t)(n)*3600000000)
#define USD(n)   ((int64_t)(n)*1000000000)

#define KIND(name) #name " "
static const char KINDS_TEXT[] =
#include "libshared/catalog/kinds.def"
    ;
#undef KIND
#define KINDS KINDS_TEXT

const struct option_row OPTIONS[] = {
#include "gatewayd/config/options.def"
};
const size_t OPTIONS_LEN = ARRAY_LEN(OPTIONS);

const struct option_row *option_find(const char *path)
{
    for (size_t i = 0; i < OPTIONS_LEN; i++)
        if (strcmp(OPTIONS[i].path, path) == 0)
            return &OPTIONS[i];
    return NULL;
}

static bool has_below(const char *path, const char *mark)
{
    size_t n = strlen(path);

    for (size_t i = 0; i < OPTIONS_LEN; i++)
        if (strncmp(OPTIONS[i].path, path, n) == 0 && strncmp(OPTIONS[i].path + n, mark, strlen(mark)) == 0)
            return true;
    return false;
}

bool option_has_section(const char *path)
{
    return has_below(path, ".");
}
bool option_has_list(const char *path)
{
    return has_below(path, "[].");
}
bool option_is_root(const struct option_row *row)
{
    return !strstr(row->path, "[]");
}

/* ---- what was probably meant ---- */

#define WORD_MAX 48u

unsigned edit_distance(struct span a, struct span b)
{
    unsigned row[3][WORD_MAX + 1];

    if (a.len > WORD_MAX || b.len > WORD_MAX)
        return WORD_MAX;
    for (size_t j = 0; j <= b.len; j++)
        row[0][j] = (unsigned)j;
    for (size_t i = 1; i <= a.len; i++) {
        unsigned *now = row[i % 3], *up = row[(i - 1) % 3];

        now[0] = (unsigned)i;
        for (size_t j = 1; j <= b.len; j++) {
            bool is_same = a.p[i - 1] == b.p[j - 1];
            unsigned best = up[j - 1] + (is_same ? 0 : 1);

            if (up[j] + 1 < best)
                best = up[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1] &&
                row[(i - 2) % 3][j - 2] + 1 < best)
                best = row[(i - 2) % 3][j - 2] + 1;
            now[j] = best;
        }
    }
    return row[a.len % 3][b.len];
}

bool is_close(unsigned distance, size_t len)
{
    return distance <= (len < 4 ? 1 : len < 8 ? 2 : 3);
}

const char *option_suggest(const char *prefix, struct span key, char dst[OPTION_PATH_CAP])
{
    size_t n = strlen(prefix);
    unsigned best = WORD_MAX;

    for (size_t i = 0; i < OPTIONS_LEN; i++) {
        struct span rest;
        unsigned d;

        if (strncmp(OPTIONS[i].path, prefix, n) != 0)
            continue;
        rest = span_of(OPTIONS[i].path + n);
        rest.len = strcspn(rest.p, ".[");
        d = edit_distance(key, rest);
        if (d < best) {
            best = d;
            (void)span_copy(dst, OPTION_PATH_CAP, rest);
        }
    }
    return is_close(best, key.len) ? dst : NULL;
}

/* ---- documentation ---- */

static void add_words(struct buf *out, const char *words)
{
    struct span rest = span_of(words);
    const char *comma = "";

    while (rest.p) {
        struct span w = span_split(&rest, ' ');

        if (!w.len)
            continue;
        buf_addf(out, "%s`%.*s`", comma, (int)w.len, w.p);
        comma = ", ";
    }
}

/* As an operator writes it: "30s". */
static void add_duration(struct buf *out, int64_t us)
{
    static const struct {
        int64_t us;
        const char *unit;
    } UNITS[] = {{3600000000, "h"}, {60000000, "m"}, {1000000, "s"}, {1000, "ms"}, {1, "us"}};

    for (size_t i = 0; i < ARRAY_LEN(UNITS); i++)
        if (us == 0 || us % UNITS[i].us == 0) {
            buf_addf(out, "%lld%s", (long long)(us / UNITS[i].us), us ? UNITS[i].unit : "");
            return;
        }
}

/* "32MiB" */
static void add_size(struct buf *out, int64_t n)
{
    static const char *const UNITS[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t u = 0;

    while (n && n % 1024 == 0 && u + 1 < ARRAY_LEN(UNITS)) {
        n /= 1024;
        u++;
    }
    buf_addf(out, "%lld%s", (long long)n, UNITS[u]);
}

void option_range(struct buf *out, const struct option_row *r)
{
    int64_t ends[2] = {r->min, r->max};

    for (int i = 0; i < 2; i++) {
        if (i)
            buf_addz(out, " to ");
        if (r->type == OPT_DURATION)
            add_duration(out, ends[i]);
        else if (r->type == OPT_SIZE)
            add_size(out, ends[i]);
        else if (r->type == OPT_RATIO)
            buf_addf(out, "%g", (double)ends[i] / 1e6);
        else if (r->type == OPT_MONEY)
            buf_addf(out, "%lld", (long long)(ends[i] / USD(1)));
        else
            buf_addf(out, "%lld", (long long)ends[i]);
    }
}

void option_type_text(struct buf *out, const struct option_row *r)
{
    static const char *const NAMES[] = {
        [OPT_BOOL] = "true or false",
        [OPT_COUNT] = "number",
        [OPT_SIZE] = "size",
        [OPT_DURATION] = "duration",
        [OPT_RATIO] = "ratio",
        [OPT_MONEY] = "amount",
        [OPT_TEXT] = "text",
        [OPT_PATH] = "path",
        [OPT_NAME] = "name",
        [OPT_ZONE] = "time zone",
        [OPT_LEVELS] = "percentages",
        [OPT_CHOICE] = "",
        [OPT_ENUM] = "",
        [OPT_ADDRESS] = "address",
        [OPT_DSN] = "URL",
        [OPT_DIGEST] = "digest",
        [OPT_SECRET] = "secret",
        [OPT_CIDRS] = "networks",
        [OPT_NAMES] = "list of text",
        [OPT_SECRETS] = "list of secrets",
    };

    buf_addz(out, NAMES[r->type]);
    if (r->type == OPT_CHOICE || r->type == OPT_ENUM)
        add_words(out, r->choices);
    if (r->max) {
        buf_addz(out, ", ");
        option_range(out, r);
    }
}

void option_default(struct buf *out, const struct option_row *r)
{
    if (r->shown)
        buf_addz(out, r->shown);
    else if (!r->fallback)
        buf_addz(out, "none");
    else if (!r->fallback[0])
        buf_addz(out, "empty");
    else
        buf_addf(out, "`%s`", r->fallback);
}

static void add_row(struct buf *out, const struct option_row *r)
{
    buf_addf(out, "| `%s` | ", r->path);
    option_type_text(out, r);
    buf_addz(out, " | ");
    option_default(out, r);
    buf_addz(out, " | ");
    if (r->env)
        buf_addf(out, "`%s`", r->env);
    if (r->alias)
        buf_addf(out, ", `%s`%s%s%s", r->alias, r->alias_unit ? " (in " : "",
                 r->alias_unit ? r->alias_unit : "", r->alias_unit ? ")" : "");
    buf_addf(out, " | %s | %s%s |\n", r->is_live ? "reload" : "restart", r->text,
             r->is_later ? " *(no effect yet)*" : "");
}

void config_document(struct buf *out)
{
    buf_addz(out,
             "| option | type | default | environment | changes by | meaning |\n|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < OPTIONS_LEN; i++)
        add_row(out, &OPTIONS[i]);
    buf_addz(out, "\n| known provider | kind | key in the environment | base URL |\n|---|---|---|---|\n");
#define PROVIDER(name, kind, variable, url)                                                                  \
    buf_addf(out, "| `%s` | `%s` | `%s` | `%s` |\n", name, kind, variable, url);
#include "libshared/catalog/providers.def"
#undef PROVIDER
}
