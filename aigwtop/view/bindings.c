/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and what they do, from bindings.def; settings may bind others. The help is made of the same table. */
#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#include "aigwtop/view/ui.h"

#define KEYS_CAP 32

static const struct {
    const char *name, *keys, *text;
    enum group group;
} BINDINGS[ACTION_COUNT] = {
#define BINDING(action, keys, group, text) [ACTION_##action] = {#action, keys, text, GROUP_##group},
#include "aigwtop/bindings.def"
#undef BINDING
};

static char bound[ACTION_COUNT][KEYS_CAP]; /* "": as in the table */

const char *action_keys(enum action a)
{
    return bound[a][0] ? bound[a] : BINDINGS[a].keys;
}

bool action_is_bound(enum action a)
{
    return bound[a][0] != '\0';
}

static bool has_key(const char *keys, const char *key)
{
    struct span rest = span_of(keys);

    while (rest.len)
        if (span_is(span_split(&rest, ' '), key))
            return true;
    return false;
}

enum action action_of(const char *key)
{
    if (strcmp(key, "Space") != 0 && (strchr(key, ' ') || !*key))
        return ACTION_NONE;
    for (int a = 1; a < ACTION_COUNT; a++)
        if (has_key(action_keys((enum action)a), key))
            return (enum action)a;
    return ACTION_NONE;
}

const char *action_name(enum action a)
{
    static char name[32];
    size_t n = 0;

    for (const char *p = BINDINGS[a].name; *p && n + 1 < sizeof(name); p++)
        name[n++] = (char)tolower((unsigned char)*p);
    name[n] = '\0';
    return name;
}

bool action_bind(const char *action, const char *keys)
{
    for (int a = 1; a < ACTION_COUNT; a++)
        if (strcasecmp(BINDINGS[a].name, action) == 0 && strlen(keys) < KEYS_CAP && *keys) {
            (void)snprintf(bound[a], KEYS_CAP, "%s", keys);
            return true;
        }
    return false;
}

const char *group_title(enum group g)
{
    static const char *const TITLES[GROUP_COUNT] = {"MOVE", "VIEW", "FIND AND ORDER", "TIME", "OTHER"};

    return TITLES[g];
}

size_t help_lines(enum group g, struct help_line *out, size_t cap)
{
    size_t n = 0;

    for (int a = 1; a < ACTION_COUNT; a++) {
        struct help_line *last = n ? &out[n - 1] : NULL;
        size_t len = last ? strlen(last->keys) : 0;

        if (BINDINGS[a].group != g)
            continue;
        if (last && strcmp(last->text, BINDINGS[a].text) == 0) {
            (void)snprintf(last->keys + len, sizeof(last->keys) - len, " %s", action_keys((enum action)a));
        } else if (n < cap) {
            out[n].text = BINDINGS[a].text;
            (void)snprintf(out[n++].keys, sizeof(out->keys), "%s", action_keys((enum action)a));
        }
    }
    return n;
}
