/* SPDX-License-Identifier: Apache-2.0 */
/* Reads an unfinished command line against the table of commands. Names that only the gateway knows are asked for within 300 ms and
 * kept for 30 s in a file; where nobody answers there are none, and nothing is said, because a prompt is no place for it. */
#include "aigwctl/completion.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libshared/catalog/alerts.h"
#include "libshared/catalog/metrics.h"

#define CACHE_S   30
#define BUDGET_MS 300

/* ---- names that the gateway knows ------------------------------------------------------------------------------------ */

static const struct source {
    const char *kind, *path, *list; /* list: the member that is the array; NULL: the answer itself */
    const char *first, *second;     /* members; with a second one the name is first/second */
} SOURCES[] = {
    {"PROVIDER", "/api/monitoring/health", NULL, "provider", NULL},
    {"TARGET", "/api/monitoring/circuit-breakers", NULL, "provider", "model"},
    {"PROVIDER/MODEL", "/api/monitoring/circuit-breakers", NULL, "provider", "model"},
    {"MODEL", "/api/monitoring/circuit-breakers", NULL, "model", NULL},
    {"TENANT", "/api/admin/tenants", "tenants", "id", NULL},
    {"KEY", "/api/admin/keys", "keys", "tenant", "id"},
    {"TENANT/KEY", "/api/admin/keys", "keys", "tenant", "id"},
    {"ACCOUNT", "/api/admin/budgets", "budgets", "account", NULL},
};

static bool cache_path(const struct ctl *ctl, const char *kind, char *dst, size_t cap)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char folder[512];
    uint64_t h = 1469598103934665603u;

    for (const char *z = ctl->found_url; *z; z++)
        h = (h ^ (unsigned char)*z) * 1099511628211u;
    if (cache && cache[0] == '/')
        (void)snprintf(folder, sizeof(folder), "%.400s", cache);
    else if (home && home[0] == '/')
        (void)snprintf(folder, sizeof(folder), "%.400s/.cache", home);
    else
        return false;
    (void)mkdir(folder, 0700);
    (void)snprintf(folder + strlen(folder), 64, "/gatewayd");
    (void)mkdir(folder, 0700);
    (void)snprintf(dst, cap, "%s/names-%016" PRIx64 "-%s.json", folder, h, kind);
    for (char *z = dst + strlen(folder) + 1; *z; z++)
        if (*z == '/')
            *z = '+';
    return true;
}

static json_t *cached(const char *path)
{
    struct stat st;

    if (stat(path, &st) || wall_now().us / 1000000 - st.st_mtime > CACHE_S)
        return NULL;
    return json_load_file(path, 0, NULL);
}

static void keep(const char *path, const json_t *names)
{
    char temp[1100];
    int fd;

    (void)snprintf(temp, sizeof(temp), "%s.%ld", path, (long)getpid());
    fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (json_dumpfd(names, fd, JSON_COMPACT) || close(fd) || rename(temp, path))
        (void)unlink(temp);
}

static void add_name(json_t *names, const struct source *s, const json_t *row)
{
    const char *a = json_string_value(json_object_get(row, s->first));
    const char *b = s->second ? json_string_value(json_object_get(row, s->second)) : "";
    struct buf name AUTO(buf_release) = {.max = 1024};
    size_t i;
    json_t *known;

    if (!a || !b)
        return;
    buf_addf(&name, "%s%s%s", a, s->second ? "/" : "", b);
    json_array_foreach(names, i, known) if (strcmp(json_string_value(known), name.p) == 0) return;
    (void)json_array_append_new(names, json_string(name.p));
}

static json_t *ask(struct ctl *ctl, const struct source *s)
{
    json_t *names = json_array(), *doc = NULL, *row;
    const json_t *rows;
    size_t i;

    ctl->is_raw = false;
    ctl->timeout_ms = BUDGET_MS;
    if (ctl_get(ctl, s->path, &doc)) {
        json_decref(names);
        return NULL;
    }
    rows = s->list && json_is_object(doc) ? json_object_get(doc, s->list) : doc;
    json_array_foreach(rows, i, row)
    {
        if (strcmp(s->kind, "TARGET") == 0)
            add_name(names, &(struct source){.first = "provider"}, row);
        add_name(names, s, row);
    }
    json_decref(doc);
    return names;
}

json_t *completion_names(struct ctl *ctl, const char *kind)
{
    char path[1024];
    json_t *names;

    for (size_t i = 0; i < ARRAY_LEN(SOURCES); i++) {
        if (strcmp(SOURCES[i].kind, kind) != 0)
            continue;
        if (ctl_find_url(ctl))
            return NULL;
        if (!cache_path(ctl, kind, path, sizeof(path)))
            return ask(ctl, &SOURCES[i]);
        names = cached(path);
        if (!names) {
            names = ask(ctl, &SOURCES[i]);
            if (names)
                keep(path, names);
        }
        return names;
    }
    return NULL;
}

/* ---- names that this program knows ----------------------------------------------------------------------------------- */

static void put(const char *word, const char *what, const char *begun)
{
    if (strncmp(word, begun, strlen(begun)) != 0 || strpbrk(word, "\t\n"))
        return;
    term_put(stdout, word);
    if (what) {
        (void)putchar('\t');
        term_put(stdout, what);
    }
    (void)putchar('\n');
}

/* "open|closed", each with what stands before the comma of a list that is being written. */
static void put_words(const char *words, const char *begun)
{
    char word[128];

    while (*words) {
        size_t n = strcspn(words, "|");

        (void)span_copy(word, sizeof(word), span_make(words, n));
        put(word, NULL, begun);
        words += n + (words[n] == '|');
    }
}

static void put_running(void *user, const struct context *c)
{
    put(c->name, "a demo that runs", user);
}

static void put_contexts(const char *begun)
{
    struct contexts c;

    if (contexts_read(&c, NULL))
        return;
    for (size_t i = 0; i < c.n; i++)
        put(c.list[i].name, c.list[i].url, begun);
    contexts_release(&c);
    contexts_running(put_running, (void *)(uintptr_t)begun);
}

static void put_catalog(const char *kind, const char *begun)
{
    if (strcmp(kind, "METRIC") == 0)
        for (size_t i = 0; i < METRIC_COUNT; i++)
            put(metric_row((enum metric)i)->name, metric_row((enum metric)i)->help, begun);
    else if (strcmp(kind, "RULE") == 0)
        for (size_t i = 0; i < alert_count(); i++)
            put(alert_row(i)->name, NULL, begun);
    else if (strcmp(kind, "COMMAND") == 0)
        for (const struct command *const *c = COMMANDS; *c; c++)
            put((*c)->name, (*c)->summary, begun);
    else if (strcmp(kind, "TOPIC") == 0)
        for (const struct help_topic *t = HELP_TOPICS; t->name; t++)
            put(t->name, t->summary, begun);
}

/* One kind, as a row of the table writes it: "PROVIDER", "FILE…", "a|b", "[TARGET]". */
static void put_kind(struct ctl *ctl, const char *kind, size_t len, const char *begun)
{
    char name[128];
    json_t *names, *n;
    size_t i;

    (void)span_copy(name, sizeof(name), span_make(kind, len));
    if (strcmp(name, "FILE") == 0 || strcmp(name, "DIR") == 0) {
        (void)puts(name[0] == 'F' ? ":files" : ":folders");
        return;
    }
    if (strcmp(name, "CONTEXT") == 0) {
        put_contexts(begun);
        return;
    }
    put_catalog(name, begun);
    names = completion_names(ctl, name);
    json_array_foreach(names, i, n) put(json_string_value(n), NULL, begun);
    json_decref(names);
}

/* Alternatives of one place. */
static void put_place(struct ctl *ctl, const char *place, size_t len, const char *begun)
{
    while (len && (*place == '[' || *place == '<')) {
        place++;
        len--;
    }
    while (len && (place[len - 1] == ']' || (unsigned char)place[len - 1] >= 0x80))
        len--;
    while (len) {
        size_t n = 0;

        while (n < len && place[n] != '|')
            n++;
        if (place[0] >= 'a' && place[0] <= 'z') {
            char words[128];

            (void)span_copy(words, sizeof(words), span_make(place, n));
            put_words(words, begun);
        } else {
            put_kind(ctl, place, n, begun);
            if (memchr(place, '[', n)) /* TENANT[/KEY] */
                put_kind(ctl, "KEY", 3, begun);
        }
        place += n + (n < len);
        len -= n + (n < len);
    }
}

/* ---- the line -------------------------------------------------------------------------------------------------------- */

static bool is_end(const struct argp_option *o)
{
    return !o->name && !o->key && !o->doc && !o->group;
}

static const struct argp_option *find_option(const struct command *c, const char *word)
{
    const struct argp_option *lists[] = {c ? c->options : NULL, GLOBAL_OPTIONS};
    bool is_long = strncmp(word, "--", 2) == 0;

    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (const struct argp_option *o = lists[l]; o && !is_end(o); o++) {
            size_t n = o->name ? strlen(o->name) : 0;

            if (is_long && n && strncmp(word + 2, o->name, n) == 0 &&
                (word[2 + n] == '\0' || word[2 + n] == '='))
                return o;
            if (!is_long && word[0] == '-' && word[1] && o->key == word[1])
                return o;
        }
    return NULL;
}

/* "open, close: how long": an option of those verbs. Without any such beginning it is one of all. */
static bool is_of_verb(const struct command *c, const struct argp_option *o, const char *verb)
{
    const char *colon = o->doc ? strchr(o->doc, ':') : NULL;
    char name[64];
    bool any = false, is_it = false;

    for (const char *z = o->doc; colon && z < colon;) {
        size_t n = strcspn(z, ",: ");

        (void)span_copy(name, sizeof(name), span_make(z, n));
        if (n && command_verb_find(c, name)) {
            any = true;
            is_it |= !verb || strcmp(name, verb) == 0;
        }
        z += n + strspn(z + n, ", ");
        if (*z == ':')
            break;
    }
    return !any || is_it;
}

static void put_options(const struct command *c, const char *verb, const char *begun)
{
    const struct argp_option *lists[] = {c ? c->options : NULL, GLOBAL_OPTIONS};
    char word[80];

    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (const struct argp_option *o = lists[l]; o && !is_end(o); o++) {
            if (!o->name || (o->flags & OPTION_HIDDEN) || (l == 0 && !is_of_verb(c, o, verb)))
                continue;
            (void)snprintf(word, sizeof(word), "--%s", o->name);
            put(word, o->doc, begun);
        }
}

struct line {
    const struct command *c;
    const char *verb;
    int n_targets;                    /* after the verb */
    const struct argp_option *wanted; /* the word to come is its value */
};

static void take_word(struct ctl *ctl, struct line *l, char *word)
{
    const struct argp_option *o;

    if (l->wanted) {
        if (strcmp(l->wanted->name, "context") == 0)
            ctl->context = word;
        else if (strcmp(l->wanted->name, "url") == 0)
            ctl->url = word;
        else if (strcmp(l->wanted->name, "token-file") == 0)
            ctl->token_file = word;
        l->wanted = NULL;
        return;
    }
    if (word[0] == '-') {
        o = find_option(l->c, word);
        if (!o || !o->arg || (o->flags & OPTION_ARG_OPTIONAL))
            return;
        l->wanted = o;
        if (strchr(word, '=') || (word[1] != '-' && word[2]))
            take_word(ctl, l, strchr(word, '=') ? strchr(word, '=') + 1 : word + 2);
    } else if (!l->c) {
        l->c = command_find(word);
        if (!l->c && strcmp(word, "help") == 0)
            l->verb = "help";
    } else if (!l->verb && command_verb_find(l->c, word)) {
        l->verb = word;
    } else {
        l->n_targets++;
    }
}

/* The place among a verb's arguments that the word to come stands at: words in capitals or alternatives, options left out. */
static void put_target(struct ctl *ctl, const struct line *l, const char *begun)
{
    for (const struct command_verb *v = l->c->verbs; v->name; v++) {
        const char *z = v->args, *last = NULL;
        size_t last_len = 0;
        int at = 0;

        if (strcmp(v->name, l->verb ? l->verb : "") != 0)
            continue;
        while (*z) {
            size_t n = strcspn(z, " ");

            if (strncmp(z, "--", 2) == 0 || strncmp(z, "[--", 3) == 0) {
                z += n + strspn(z + n, " ");
                n = *z >= 'A' && *z <= 'Z' && z[-1] == ' ' && strncmp(z - 3, "all", 2) != 0 ? strcspn(z, " ")
                                                                                            : 0;
                z += n + strspn(z + n, " ");
                continue;
            }
            if (at++ == l->n_targets) {
                put_place(ctl, z, n, begun);
                break;
            }
            last = z;
            last_len = n;
            z += n + strspn(z + n, " ");
        }
        if (at <= l->n_targets && last && last_len > 3 && memmem(last, last_len, "…", 3))
            put_place(ctl, last, last_len, begun);
    }
}

static void put_verbs(const struct line *l, const char *begun)
{
    const char *was = "";

    for (const struct command_verb *v = l->c->verbs; v->name; v++) {
        if (*v->name && strcmp(v->name, was) != 0)
            put(v->name, v->summary, begun);
        was = v->name;
    }
}

/* "a,b" is completed after its last comma. */
static void put_value(struct ctl *ctl, const struct argp_option *o, const char *begun)
{
    put_place(ctl, o->arg, strlen(o->arg), begun);
}

void completion_print(struct ctl *ctl, char **words, int n)
{
    struct line l = {0};
    const char *begun = n ? words[n - 1] : "";

    if (freopen("/dev/null", "w", stderr) == NULL)
        return;
    for (int i = 0; i + 1 < n; i++)
        take_word(ctl, &l, words[i]);
    if (l.wanted) {
        put_value(ctl, l.wanted, begun);
    } else if (begun[0] == '-' && strchr(begun, '=')) {
        const struct argp_option *o = find_option(l.c, begun);

        if (o && o->arg)
            put_value(ctl, o, strchr(begun, '=') + 1);
    } else if (begun[0] == '-') {
        put_options(l.c, l.verb, begun);
    } else if (l.verb && !l.c) {
        put_catalog("COMMAND", begun);
        put_catalog("TOPIC", begun);
    } else if (!l.c) {
        put_catalog("COMMAND", begun);
        put("help", "pages of help", begun);
    } else {
        if (!l.verb && !l.n_targets)
            put_verbs(&l, begun);
        put_target(ctl, &l, begun);
    }
}
