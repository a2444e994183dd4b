/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator should know about a configuration that is valid: settings without effect yet, variables
 * that nothing reads, secrets that others can read; and which changes a reload cannot make. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gatewayd/config/config_priv.h"

static bool is_in(const char *path, struct span section)
{
    return strncmp(path, section.p, section.len) == 0 && path[section.len] == '.';
}

/* What to name in the warning about a row: its section where nothing in that has effect ("tenants[].limits" of
 * "tenants[].limits.rpm"), else the option alone. */
static struct span subject_of(const char *path)
{
    const char *dot = strrchr(path, '.');
    struct span section = span_make(path, dot ? (size_t)(dot - path) : 0);

    for (size_t i = 0; dot && i < OPTIONS_LEN; i++)
        if (is_in(OPTIONS[i].path, section) && !OPTIONS[i].is_later)
            return span_of(path);
    return dot ? section : span_of(path);
}

/* Whether the value of a text or list asks for no more than the default does. */
static bool is_harmless(const struct config *c, const struct option_row *row)
{
    const char *text;
    const char *const *items;
    size_t n;

    if (row->type == OPT_DSN || row->type == OPT_TEXT) {
        memcpy(&text, (const char *)c + row->offset, sizeof(text));
        return text && row->fallback && strcmp(text, row->fallback) == 0;
    }
    if (row->type != OPT_NAMES || !row->fallback)
        return false;
    memcpy(&items, (const char *)c + row->offset, sizeof(items));
    memcpy(&n, (const char *)c + row->n_offset, sizeof(n));
    return n == 1 && strcmp(items[0], row->fallback) == 0;
}

static bool is_asked_for(const struct build *b, size_t i)
{
    const struct origin *o = &b->set_by[i];

    if (!OPTIONS[i].is_later || (!o->file && !o->variable && !o->flag))
        return false;
    if (o->file && strcmp(o->file, OVERLAY_NAME) == 0) /* the operator did not ask for it */
        return false;
    return !option_is_root(&OPTIONS[i]) || !is_harmless(b->c, &OPTIONS[i]);
}

static void warn_later(struct build *b)
{
    struct span done = {NULL, 0};

    for (size_t i = 0; i < OPTIONS_LEN; i++) {
        struct span subject;

        if (!is_asked_for(b, i))
            continue;
        subject = subject_of(OPTIONS[i].path);
        if (!done.p || !span_eq(done, subject))
            warn_origin(b, &b->set_by[i], "'%.*s' is accepted, but has no effect yet", (int)subject.len,
                        subject.p);
        done = subject;
    }
}

/* ---- variables that look like ours ---- */

#define PREFIX "GATEWAYD_"

/* Read by the other programs, by start-up, or as the key of the default tenant. */
static const char *const OTHER_VARIABLES[] = {
    "GATEWAYD_CONFIG", "GATEWAYD_KEY",     "GATEWAYD_URL",   "GATEWAYD_TOKEN_FILE", "GATEWAYD_CONTEXT",
    "GATEWAYD_OUTPUT", "GATEWAYD_TIMEOUT", "GATEWAYD_PAGER", "GATEWAYD_LOG",
};

static bool is_known_variable(struct span name)
{
    for (size_t i = 0; i < OPTIONS_LEN; i++)
        if (OPTIONS[i].env && span_is(name, OPTIONS[i].env))
            return true;
    for (size_t i = 0; i < ARRAY_LEN(OTHER_VARIABLES); i++)
        if (span_is(name, OTHER_VARIABLES[i]))
            return true;
    return name.len > 9 && memcmp(name.p + name.len - 9, "_BASE_URL", 9) == 0;
}

/* Compared without the prefix, which would make everything look alike. */
static const char *closest_variable(struct span name)
{
    const char *near = NULL;
    unsigned best = UINT32_MAX;

    name = span_make(name.p + sizeof(PREFIX) - 1, name.len - (sizeof(PREFIX) - 1));
    for (size_t i = 0; i < OPTIONS_LEN; i++) {
        unsigned d =
            OPTIONS[i].env ? edit_distance(name, span_of(OPTIONS[i].env + sizeof(PREFIX) - 1)) : UINT32_MAX;

        if (d < best) {
            best = d;
            near = OPTIONS[i].env;
        }
    }
    return near && is_close(best, name.len) ? near : NULL;
}

static void warn_variables(struct build *b)
{
    for (char **e = environ; e && *e; e++) {
        struct span rest = span_of(*e), name = span_split(&rest, '=');
        const char *near;

        if (!span_starts(name, SPAN_LIT(PREFIX)) || name.len > LIMIT_NAME_BYTES || is_known_variable(name))
            continue;
        near = closest_variable(name);
        if (near)
            buf_addf(&b->warnings, "environment variable '%.*s' is not known; did you mean '%s'?\n",
                     (int)name.len, name.p, near);
    }
}

static void warn_readable_file(struct build *b)
{
    struct stat st;

    if (b->has_plain_secret && b->c->path && stat(b->c->path, &st) == 0 && S_ISREG(st.st_mode) &&
        (st.st_mode & S_IROTH))
        buf_addf(&b->warnings, "%s: holds secrets and can be read by everyone; its mode should be 0600\n",
                 b->c->path);
}

void warn_all(struct build *b)
{
    warn_later(b);
    warn_variables(b);
    warn_readable_file(b);
    if (!b->n_providers)
        buf_addz(&b->warnings, "no provider is configured, so no request can be answered\n");
}

void config_warnings(const struct config *c, struct buf *out)
{
    buf_addz(out, c->warnings);
}

/* ---- what a reload cannot change ---- */

static bool same_value(const struct option_row *row, const struct config *a, const struct config *b)
{
    const char *x = (const char *)a + row->offset, *y = (const char *)b + row->offset;
    const char *s, *t;
    size_t n, m;

    switch (row->type) {
    case OPT_TEXT:
    case OPT_PATH:
    case OPT_CHOICE:
    case OPT_NAME:
    case OPT_DSN:
    case OPT_ADDRESS: /* its host comes first */
        memcpy(&s, x, sizeof(s));
        memcpy(&t, y, sizeof(t));
        if (row->type == OPT_ADDRESS && ((const struct config_address *)(const void *)x)->port !=
                                            ((const struct config_address *)(const void *)y)->port)
            return false;
        return s && t ? strcmp(s, t) == 0 : s == t;
    case OPT_SECRET:
        return span_eq(secret_expose((const struct secret *)(const void *)x),
                       secret_expose((const struct secret *)(const void *)y));
    case OPT_NAMES:
        memcpy(&n, (const char *)a + row->n_offset, sizeof(n));
        memcpy(&m, (const char *)b + row->n_offset, sizeof(m));
        if (n != m)
            return false;
        for (size_t i = 0; i < n; i++)
            if (strcmp((*(const char *const *const *)(const void *)x)[i],
                       (*(const char *const *const *)(const void *)y)[i]) != 0)
                return false;
        return true;
    default:
        return memcmp(x, y, row->width) == 0;
    }
}

void config_restart_needed(const struct config *running, const struct config *fresh, struct buf *out)
{
    for (size_t i = 0; i < OPTIONS_LEN; i++)
        if (option_is_root(&OPTIONS[i]) && !OPTIONS[i].is_live && !same_value(&OPTIONS[i], running, fresh))
            buf_addf(out, "%s%s", out->len ? ", " : "", OPTIONS[i].path);
}
