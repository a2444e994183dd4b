/* SPDX-License-Identifier: Apache-2.0 */
/* Samples from a recording: a line of JSON for each, read as they are asked for. At its end the last one stays. */
#include <stdio.h>

#include "aigwtop/source/source.h"

#define LINE_MAX_BYTES ((size_t)64 << 20)

struct replay {
    FILE *f;
    char *line;
    size_t cap;
    char path[200];
    struct sample *next;
    unsigned number;
    struct wall last;
};

static void look_ahead(struct replay *r, struct err *err)
{
    ssize_t n = getline(&r->line, &r->cap, r->f);
    json_t *o;

    r->next = NULL;
    if (n <= 0 || (size_t)n > LINE_MAX_BYTES)
        return;
    r->number++;
    o = json_loadb(r->line, (size_t)n, 0, NULL);
    r->next = sample_of_json(o, err);
    if (!r->next)
        (void)err_set(err, ERR_BAD_REQUEST, "line %u of '%.150s' is no sample of aigwtop", r->number,
                      r->path);
    json_decref(o);
}

static enum err_code replay_read(void *self, const struct ask *ask, struct sample *out, struct err *err)
{
    struct replay *r = self;
    struct sample *s = r->next;

    (void)ask;
    if (!s)
        return err_set(err, ERR_NOT_FOUND, "the recording is over");
    r->last = s->now;
    *out = *s;
    free(s);
    look_ahead(r, err);
    return ERR_OK;
}

static void replay_free(void *self)
{
    struct replay *r = self;

    sample_free(r->next);
    if (r->f)
        (void)fclose(r->f);
    free(r->line);
    free(r);
}

static const struct source_ops REPLAY = {
    .name = "replay", .free = replay_free, .read = replay_read, .is_recording = true};

int64_t source_replay_gap_ms(const struct source *s)
{
    const struct replay *r = s->self;

    return r->next ? (r->next->now.us - r->last.us) / 1000 : 0;
}

bool source_replay_is_over(const struct source *s)
{
    return !((const struct replay *)s->self)->next;
}

struct source source_replay(const char *path, struct err *err)
{
    struct replay *r = calloc(1, sizeof(*r));
    struct err own = {0};

    if (!r)
        abort();
    (void)snprintf(r->path, sizeof(r->path), "%.199s", path);
    r->f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (r->f)
        look_ahead(r, &own);
    if (r->next)
        return (struct source){&REPLAY, r};
    (void)(r->f ? err_set(err, ERR_CONFIG, "%s", own.code ? own.text : "the recording is empty")
                : err_set(err, ERR_CONFIG, "the recording '%.150s' cannot be read", path));
    replay_free(r);
    return (struct source){0};
}
