/* SPDX-License-Identifier: Apache-2.0 */
/* Where to find a gateway that nobody named: a context file that a running one left, or the usual places. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aigwctl/command.h"
#include "libshared/base/span.h"

bool context_path(const char *name, char *dst, size_t cap)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n;

    if (!*name || strchr(name, '/') || name[0] == '.')
        return false;
    if (state && state[0] == '/')
        n = snprintf(dst, cap, "%s/gatewayd/contexts/%s.json", state, name);
    else if (home && home[0] == '/')
        n = snprintf(dst, cap, "%s/.local/state/gatewayd/contexts/%s.json", home, name);
    else
        return false;
    return n > 0 && (size_t)n < cap;
}

bool context_read(const char *name, char *url, size_t cap, int *out_pid)
{
    char path[1024];
    json_t *o =
        context_path(name, path, sizeof(path)) ? json_load_file(path, JSON_REJECT_DUPLICATES, NULL) : NULL;
    const char *z = json_string_value(json_object_get(o, "url"));

    if (z)
        (void)span_copy(url, cap, span_of(z));
    *out_pid = (int)json_integer_value(json_object_get(o, "pid"));
    json_decref(o);
    return z != NULL;
}
