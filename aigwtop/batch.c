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

bool options_apply(const struct options *o, struct ui *ui, struct err *err)
{
    struct place *p = &ui->places[o->view];

    ui->view = o->view;
    if (o->interval_ms)
        ui->interval_ms = o->interval_ms;
    return (!o->filter || look_set_filter(&p->look, o->view, o->filter, err)) &&
           (!o->sort || look_set_sort(&p->look, o->view, o->sort, err)) &&
           (!o->columns || place_set_columns(p, o->view, o->columns, err));
}

int top_fail(int code, const struct err *err)
{
    (void)fputs("aigwtop: ", stderr);
    term_put(stderr, err_text(err));
    (void)fputc('\n', stderr);
    return code;
}

/* In small parts: a signal may come just before poll(). */
static void sleep_ms(int64_t ms)
{
    struct mono until = mono_add_us(mono_now(), ms * 1000);

    for (int64_t left = ms; left > 0 && !top_stop; left = mono_diff_us(until, mono_now()) / 1000)
        (void)poll(NULL, 0, (int)(left > 100 ? 100 : left));
}

/* ---- one sample ------------------------------------------------------------------------------------------------------ */

struct batch {
    const struct options *o;
    struct source source, second;
    struct model *model;
    struct ui ui; /* as on a screen that nobody touches */
    enum glyphs glyphs;
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
    model_absorb(b->model, s, sample_moment(s, b->ui.is_recording));
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
    struct table t;
    struct scene sc = {.model = b->model, .ui = &b->ui, .table = &t};
    struct export_how how = {
        .form = b->o->form, .has_header = !b->is_headed, .source = b->model->head.source};
    struct buf out AUTO(buf_release) = {0};

    b->ui.now = b->ui.is_recording ? b->model->at : mono_now();
    sc.fresh = model_fresh(b->model, b->ui.now, b->ui.interval_ms);
    sc.now = how.now = model_now(b->model, b->ui.now);
    how.is_stale = fresh_is_stale(sc.fresh.kind);
    how.columns = ui_place(&b->ui)->forced;
    ui_build(&b->ui, b->model, &t);
    if (b->o->form == EXPORT_TABLE)
        draw_text(&sc, term_width(stdout), b->glyphs, &out);
    else
        export_table(&t, &how, &out);
    b->is_headed = true;
    b->worst = code_of(&t, &sc.fresh);
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
    if (!b->was_told)
        (void)top_fail(b->worst, err);
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
    return b->ui.is_recording && source_replay_is_over(&b->source);
}

static int loop(struct batch *b)
{
    const struct options *o = b->o;
    bool is_recording = b->ui.is_recording;
    int rc = -1;

    if (o->has_warmup && !is_recording) {
        rc = tick(b, false);
        if (rc < 0 && !b->is_lost)
            sleep_ms(b->ui.interval_ms);
    }
    for (uint64_t i = 0; rc < 0 && !top_stop && (!o->n || i < o->n) && !is_over(b); i++) {
        if (i && !is_recording)
            sleep_ms(b->ui.interval_ms);
        if (!top_stop)
            rc = tick(b, true);
    }
    return rc >= 0 ? rc : end_of(b);
}

int batch_run(const struct options *o)
{
    struct batch b = {.o = o, .glyphs = glyphs_auto()};
    struct look *look = &b.ui.places[o->view].look;
    struct err err = {0};
    int rc;

    ui_init(&b.ui);
    look->is_tree = o->form == EXPORT_TABLE;
    look->all_open = true;
    if (o->glyphs)
        (void)glyphs_parse(o->glyphs, &b.glyphs);
    if (!options_apply(o, &b.ui, &err))
        return top_fail(CLI_USAGE, &err);
    if (where_open(&o->where, &top_stop, &b.source, &b.second, &err))
        return top_fail(err.code == ERR_NOT_FOUND ? CLI_NOT_FOUND : CLI_USAGE, &err);
    b.ui.is_recording = b.source.ops->is_recording;
    if (o->record && !(b.record = fopen(o->record, "we"))) {
        (void)err_set(&err, ERR_IO, "cannot write '%s': %s", o->record, strerror(errno));
        rc = top_fail(CLI_FAILED, &err);
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
