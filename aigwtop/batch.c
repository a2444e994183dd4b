/* SPDX-License-Identifier: Apache-2.0 */
/* Reads, prints, sleeps. One thread; the source is asked directly. Nothing of curses is touched, every sample is flushed, a reader
 * that went away ends it quietly. */
#include "aigwtop/batch.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "libshared/cli/term.h"

bool columns_parse(enum view v, const char *list, uint32_t *out, struct err *err)
{
    struct span rest = span_of(list);
    size_t n;

    (void)view_columns(v, &n);
    *out = 0;
    while (rest.len) {
        char name[64];
        size_t i;

        (void)span_copy(name, sizeof(name), span_trim(span_split(&rest, ',')));
        i = column_find(v, name);
        if (i == n) {
            (void)err_set(err, ERR_BAD_REQUEST, "view '%s' has no column '%s'", view_name(v), name);
            return false;
        }
        *out |= 1u << i;
    }
    return true;
}

bool sort_parse(enum view v, const char *text, struct look *look, struct err *err)
{
    bool is_reversed = *text == '-';
    size_t n, i = column_find(v, text + is_reversed);

    (void)view_columns(v, &n);
    if (i == n) {
        (void)err_set(err, ERR_BAD_REQUEST, "view '%s' has no column '%s'", view_name(v), text + is_reversed);
        return false;
    }
    look->sort = i;
    look->is_reversed = is_reversed;
    return true;
}

void ask_for(struct ask *ask, enum view v, const char *provider, bool is_drill)
{
    static const unsigned WANTS[VIEW_COUNT] = {
        [VIEW_TENANTS] = HAS_TENANTS | HAS_BUDGETS | HAS_LIMITS,
        [VIEW_BREAKERS] = HAS_BREAKERS,
        [VIEW_ERRORS] = HAS_ERRORS,
        [VIEW_ANOMALIES] = HAS_ANOMALIES,
    };

    ask->wants = is_drill ? HAS_ERRORS | HAS_BREAKERS : WANTS[v];
    ask->wants_models = is_drill || v == VIEW_MODELS || v == VIEW_LATENCY;
    (void)snprintf(ask->provider, sizeof(ask->provider), "%s", provider);
}

int64_t sleep_ms(int64_t ms)
{
    struct mono until = mono_add_us(mono_now(), ms * 1000);

    while (!top_stop) {
        int64_t left = mono_diff_us(until, mono_now()) / 1000;

        if (left <= 0)
            return 0;
        (void)poll(NULL, 0, (int)(left > 100 ? 100 : left));
    }
    return mono_diff_us(until, mono_now()) / 1000;
}

/* ---- one sample ------------------------------------------------------------------------------------------------------ */

struct batch {
    const struct options *o;
    struct source source, second;
    struct model *model;
    struct look look;
    uint32_t columns;
    FILE *record;
    bool is_headed, was_told;
    int worst; /* exit code of the last sample */
    struct mono lost;
    bool is_lost;
};

static enum err_code read_from(struct batch *b, struct source *from, struct sample **out, struct err *err)
{
    struct ask ask = {0};
    enum err_code e;

    ask_for(&ask, b->o->view, "", false);
    *out = sample_new();
    *err = (struct err){0};
    e = from->ops->read(from->self, &ask, *out, err);
    if (e) {
        sample_free(*out);
        *out = NULL;
    }
    return e;
}

static enum err_code take(struct batch *b, struct err *err)
{
    struct sample *s;
    enum err_code e = read_from(b, &b->source, &s, err);

    if (e && b->second.ops && !b->model->has_live && !read_from(b, &b->second, &s, err)) {
        struct source other = b->source;

        b->source = b->second;
        b->second = other;
        e = ERR_OK;
    }
    if (e)
        return e;
    sample_record(b->record, s);
    model_absorb(b->model, s, mono_now());
    return ERR_OK;
}

static int code_of(const struct table *t, const struct fresh *f)
{
    int code = CLI_OK;

    if (fresh_is_stale(f->kind))
        return CLI_STALE;
    for (size_t i = 0; i < t->lines.n; i++) {
        if (t->lines.v[i].level == LEVEL_CRIT)
            return CLI_CRITICAL;
        if (t->lines.v[i].level == LEVEL_WARN)
            code = CLI_WARNING;
    }
    return code;
}

static int print(struct batch *b)
{
    struct mono now = mono_now();
    struct fresh f = model_fresh(b->model, now, b->o->interval_ms);
    bool is_recording = b->source.ops->is_recording;
    struct scope scope = {.view = b->o->view,
                          .provider = "",
                          .span_us = INT64_C(600000000),
                          .now = is_recording ? b->model->live_now : model_now(b->model, now),
                          .is_stale = !is_recording && fresh_is_stale(f.kind)};
    struct buf out AUTO(buf_release) = {0};
    struct table t;

    table_build(&t, b->model, &scope, &b->look);
    export_table(&t,
                 &(struct export_how){.form = b->o->form,
                                      .columns = b->columns,
                                      .has_header = !b->is_headed,
                                      .source = b->model->head.source,
                                      .is_stale = scope.is_stale,
                                      .now = scope.now},
                 &out);
    b->is_headed = true;
    b->worst = code_of(&t, &f);
    table_release(&t);
    if (out.len)
        (void)fwrite(out.p, 1, out.len, stdout);
    return fflush(stdout) || ferror(stdout) ? CLI_FAILED : CLI_OK;
}

/* ---- the loop -------------------------------------------------------------------------------------------------------- */

static int no_answer(struct batch *b, const struct err *err)
{
    struct mono now = mono_now();
    int64_t limit_us = b->o->exit_on_loss_s * 1000000;

    b->lost = b->is_lost ? b->lost : now;
    b->is_lost = true;
    b->worst = err->code == ERR_FORBIDDEN ? CLI_NO_AUTH : CLI_NO_ANSWER;
    if (!b->was_told) {
        (void)fputs("aigwtop: ", stderr);
        term_put(stderr, err_text(err));
        (void)fputc('\n', stderr);
    }
    b->was_told = true;
    return limit_us && mono_diff_us(now, b->lost) >= limit_us ? b->worst : -1;
}

/* -1: go on. */
static int tick(struct batch *b, bool prints)
{
    struct err err;

    if (take(b, &err))
        return no_answer(b, &err);
    b->is_lost = b->was_told = false;
    return prints && print(b) ? CLI_FAILED : -1;
}

static int end_of(const struct batch *b)
{
    if (top_stop)
        return 128 + top_stop;
    if (b->worst == CLI_NO_ANSWER || b->worst == CLI_NO_AUTH)
        return b->worst;
    return b->o->has_exit_code ? b->worst : CLI_OK;
}

static bool is_over(const struct batch *b)
{
    return b->source.ops->is_recording && source_replay_is_over(&b->source);
}

static int loop(struct batch *b)
{
    const struct options *o = b->o;
    bool is_recording = b->source.ops->is_recording;
    int rc = -1;

    if (o->has_warmup && !is_recording) {
        rc = tick(b, false);
        if (rc < 0 && !b->is_lost)
            (void)sleep_ms(o->interval_ms);
    }
    for (uint64_t i = 0; rc < 0 && !top_stop && (!o->n || i < o->n) && !is_over(b); i++) {
        if (i && !is_recording)
            (void)sleep_ms(o->interval_ms);
        if (!top_stop)
            rc = tick(b, true);
    }
    return rc >= 0 ? rc : end_of(b);
}

static int fail(int code, const struct err *err)
{
    (void)fputs("aigwtop: ", stderr);
    term_put(stderr, err_text(err));
    (void)fputc('\n', stderr);
    return code;
}

int batch_run(const struct options *o)
{
    struct batch b = {.o = o};
    struct err err = {0};
    int rc;

    look_init(&b.look, o->view);
    b.look.is_tree = o->form == EXPORT_TABLE;
    b.look.all_open = true;
    if ((o->columns && !columns_parse(o->view, o->columns, &b.columns, &err)) ||
        (o->filter && !look_set_filter(&b.look, o->view, o->filter, &err)) ||
        (o->sort && !sort_parse(o->view, o->sort, &b.look, &err)) ||
        where_open(&o->where, &top_stop, &b.source, &b.second, &err))
        return fail(CLI_USAGE, &err);
    if (o->record && !(b.record = fopen(o->record, "we"))) {
        (void)err_set(&err, ERR_IO, "cannot write '%s': %s", o->record, strerror(errno));
        rc = fail(CLI_FAILED, &err);
    } else {
        b.model = model_new(mono_now());
        rc = loop(&b);
        model_free(b.model);
    }
    if (b.record)
        (void)fclose(b.record);
    source_free(&b.source);
    source_free(&b.second);
    return rc;
}
