/* SPDX-License-Identifier: Apache-2.0 */
/* ctl.yaml: the gateways that an operator knows by name. It is read whole and written whole; a key that is not known is a mistake
 * that is named, since a misspelt `read-only` would protect nothing. */
#include "libshared/cli/context.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libshared/base/buf.h"
#include "libshared/base/compiler.h"
#include "libshared/yaml/yaml_doc.h"

#define FILE_MAX (256u << 10)

static const struct {
    const char *key;
    size_t offset;
} TEXTS[] = {
    {"url", offsetof(struct context, url)},
    {"token-file", offsetof(struct context, token_file)},
    {"redis", offsetof(struct context, redis)},
    {"database", offsetof(struct context, database)},
    {"prometheus", offsetof(struct context, prometheus)},
};

bool context_is_name(const char *z)
{
    size_t n = strlen(z);

    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)z[i]) && (i == 0 || !strchr("_.-", z[i])))
            return false;
    return n > 0 && n < CONTEXT_NAME_CAP;
}

static bool user_path(char *dst, size_t cap)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = context_home();
    int n;

    if (config && config[0] == '/')
        n = snprintf(dst, cap, "%s/gatewayd/ctl.yaml", config);
    else if (*home)
        n = snprintf(dst, cap, "%s/.config/gatewayd/ctl.yaml", home);
    else
        return false;
    return n > 0 && (size_t)n < cap;
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

static enum err_code wrong(const struct contexts *c, const struct yaml_node *at, struct err *err,
                           const char *what)
{
    return err_set(err, ERR_CONFIG, "%s:%u:%u: %s", c->path, at->place.line, at->place.column, what);
}

/* "~/x" is in the home directory, as a shell would say. */
static bool take_text(char dst[CONTEXT_TEXT_CAP], const char *before, struct span text)
{
    const char *home = context_home();
    int n;

    if (text.len > 1 && text.p[0] == '~' && text.p[1] == '/' && *home)
        n = snprintf(dst, CONTEXT_TEXT_CAP, "%s%.*s", home, (int)text.len - 1, text.p + 1);
    else
        n = snprintf(dst, CONTEXT_TEXT_CAP, "%s%.*s", before, (int)text.len, text.p);
    return n >= 0 && (size_t)n < CONTEXT_TEXT_CAP;
}

static bool take_flag(struct span text, bool *out)
{
    *out = span_is(text, "true") || span_is(text, "yes");
    return *out || span_is(text, "false") || span_is(text, "no");
}

static enum err_code take_member(struct contexts *c, struct context *x, const struct yaml_item *item,
                                 struct err *err)
{
    const struct yaml_node *key = item->key, *value = item->value;

    if (value->type != NODE_TEXT)
        return wrong(c, value, err, "a text is expected here");
    if (span_is(key->text, "read-only"))
        return take_flag(value->text, &x->is_read_only) ? ERR_OK : wrong(c, value, err, "yes or no");
    if (span_is(key->text, "socket"))
        return take_text(x->url, "unix:", value->text) ? ERR_OK : wrong(c, value, err, "this is too long");
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++)
        if (span_is(key->text, TEXTS[i].key))
            return take_text((char *)x + TEXTS[i].offset, "", value->text)
                       ? ERR_OK
                       : wrong(c, value, err, "this is too long");
    return wrong(c, key, err,
                 "not known here; a context has url or socket, token-file, read-only, redis, database and "
                 "prometheus");
}

static enum err_code take_list(struct contexts *c, const struct yaml_node *map, struct err *err)
{
    enum err_code e = ERR_OK;

    if (map->type == NODE_NULL)
        return ERR_OK;
    if (map->type != NODE_MAP || map->n_items > CONTEXTS_MAX)
        return wrong(c, map, err, "a mapping of at most 64 names is expected here");
    c->list = calloc(CONTEXTS_MAX, sizeof(*c->list));
    if (!c->list)
        abort();
    for (const struct yaml_item *i = map->items; i && !e; i = i->next) {
        struct context *x = &c->list[c->n++];

        (void)span_copy(x->name, sizeof(x->name), i->key->text);
        if (!context_is_name(x->name) || i->value->type != NODE_MAP)
            e = wrong(c, i->key, err, "a name of letters and digits is expected, and a mapping under it");
        for (const struct yaml_item *m = e ? NULL : i->value->items; m && !e; m = m->next)
            e = take_member(c, x, m, err);
    }
    return e;
}

static enum err_code take_root(struct contexts *c, const struct yaml_node *root, struct err *err)
{
    enum err_code e = ERR_OK;

    if (!root)
        return ERR_OK;
    if (root->type != NODE_MAP)
        return wrong(c, root, err, "a mapping is expected");
    for (const struct yaml_item *i = root->items; i && !e; i = i->next) {
        if (span_is(i->key->text, "current-context"))
            (void)span_copy(c->current, sizeof(c->current), i->value->text);
        else if (span_is(i->key->text, "contexts"))
            e = take_list(c, i->value, err);
        else
            e = wrong(c, i->key, err, "not known; there are current-context and contexts");
    }
    return e;
}

static enum err_code read_file(struct contexts *c, FILE *f, struct err *err)
{
    struct yaml_limits limits = {FILE_MAX, 8, 4096};
    struct yaml_place where;
    struct err why = {0};
    char *text = malloc(FILE_MAX + 1);
    size_t n = text ? fread(text, 1, FILE_MAX + 1, f) : 0;
    struct yaml_doc *d = text ? yaml_doc_new(span_make(text, n), &limits, &where, &why) : NULL;
    enum err_code e;

    if (!d)
        e = err_set(err, ERR_CONFIG, "%s:%u:%u: %s", c->path, where.line, where.column, err_text(&why));
    else
        e = take_root(c, yaml_doc_root(d), err);
    yaml_doc_free(d);
    free(text);
    return e;
}

enum err_code contexts_read(struct contexts *out, struct err *err)
{
    struct contexts c = {0};
    bool has_user = user_path(c.path, sizeof(c.path));
    FILE *f = has_user ? fopen(c.path, "re") : NULL;
    enum err_code e = ERR_OK;

    if (!f && (!has_user || errno == ENOENT || errno == ENOTDIR)) {
        f = fopen("/etc/gatewayd/ctl.yaml", "re");
        if (f)
            (void)snprintf(c.path, sizeof(c.path), "/etc/gatewayd/ctl.yaml");
    } else if (!f) {
        return err_set(err, ERR_IO, "cannot read '%s': %s", c.path, strerror(errno));
    }
    if (f) {
        e = read_file(&c, f, err);
        (void)fclose(f);
    }
    if (e)
        contexts_release(&c);
    else
        *out = c;
    return e;
}

void contexts_release(struct contexts *c)
{
    free(c->list);
    c->list = NULL;
    c->n = 0;
}

struct context *contexts_find(struct contexts *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->list[i].name, name) == 0)
            return &c->list[i];
    return NULL;
}

/* ---- writing --------------------------------------------------------------------------------------------------------- */

static void add_quoted(struct buf *b, const char *key, const char *z)
{
    if (!*z)
        return;
    buf_addf(b, "    %s: \"", key);
    for (; *z; z++) {
        if (*z == '"' || *z == '\\')
            buf_addc(b, '\\');
        buf_addc(b, (unsigned char)*z < 0x20 ? '?' : *z);
    }
    buf_addz(b, "\"\n");
}

static void compose(struct buf *b, const struct contexts *c)
{
    buf_addz(b, "# The gateways that aigwctl and aigwtop know by name; 'aigwctl config' writes this file.\n");
    if (c->current[0])
        buf_addf(b, "current-context: %s\n", c->current);
    buf_addf(b, "contexts:%s\n", c->n ? "" : " {}");
    for (size_t i = 0; i < c->n; i++) {
        buf_addf(b, "  %s:\n", c->list[i].name);
        for (size_t k = 0; k < ARRAY_LEN(TEXTS); k++)
            add_quoted(b, TEXTS[k].key, (const char *)&c->list[i] + TEXTS[k].offset);
        buf_addf(b, "    read-only: %s\n", c->list[i].is_read_only ? "true" : "false");
    }
}

/* The folders above `path`. */
static void make_folders(const char *path)
{
    char part[CONTEXT_TEXT_CAP];

    for (const char *z = strchr(path + 1, '/'); z; z = strchr(z + 1, '/')) {
        (void)span_copy(part, sizeof(part), span_make(path, (size_t)(z - path)));
        (void)mkdir(part, 0700);
    }
}

enum err_code contexts_write(const struct contexts *c, struct err *err)
{
    struct buf text AUTO(buf_release) = {.max = FILE_MAX}, temp AUTO(buf_release) = {0};
    char path[CONTEXT_TEXT_CAP];
    bool is_written;
    int fd;

    if (!user_path(path, sizeof(path)))
        return err_set(err, ERR_CONFIG, "neither XDG_CONFIG_HOME nor HOME names a folder");
    make_folders(path);
    compose(&text, c);
    buf_addf(&temp, "%s.%ld.new", path, (long)getpid());
    fd = open(temp.p, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(err, ERR_IO, "cannot write '%s': %s", path, strerror(errno));
    is_written = write(fd, text.p, text.len) == (ssize_t)text.len;
    if (close(fd) || !is_written || rename(temp.p, path)) {
        int why = errno;

        (void)unlink(temp.p);
        return err_set(err, ERR_IO, "cannot write '%s': %s", path, strerror(why));
    }
    return ERR_OK;
}
