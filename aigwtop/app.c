/* SPDX-License-Identifier: Apache-2.0 */
/* The loop of the screen: waits for keys and samples, takes them in, draws. It never waits for a store; the reader's thread does.
 *
 *     poll ──► samples ──► model ─┐
 *       └────► keys ─────► ui ────┴─► table ──► cells ──► terminal
 *
 * It draws on a sample, on a key, and each second while something ages on the screen. What is in sight is told to the reader after
 * each drawing, so that it reads no more than that. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "aigwtop/app_priv.h"
#include "libshared/cli/term.h"

#define KEYS_PER_READ 150u
#define MESSAGE_US    INT64_C(4000000)
#define LEAVE_MS      300

void app_say(struct app *a, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(a->ui.message, sizeof(a->ui.message), fmt, args);
    va_end(args);
    a->said_until = mono_add_us(mono_now(), MESSAGE_US);
}

static bool is_saying(const struct app *a)
{
    return mono_diff_us(a->said_until, mono_now()) > 0;
}

struct mono app_now(const struct app *a)
{
    return a->ui.is_recording && a->model->n_samples ? a->model->at : mono_now();
}

/* ---- drawing --------------------------------------------------------------------------------------------------------- */

static void tell_reader(struct app *a)
{
    struct ask ask = {.most = KEYS_PER_READ};
    const struct place *p = ui_place(&a->ui);
    unsigned rows = ui_table_rows(&a->ui, a->w, a->h);

    ask_for(&ask, a->ui.view, a->ui.provider, a->ui.is_drill);
    for (size_t i = p->top;
         ask.wants_models && i < a->table.lines.n && i < p->top + rows && ask.n_pairs < ASK_PAIRS; i++) {
        const struct entity *e = a->table.lines.v[i].ref;

        memcpy(ask.pairs[ask.n_pairs].provider, e->provider, TOP_NAME);
        memcpy(ask.pairs[ask.n_pairs++].model, e->model, TOP_NAME);
    }
    reader_ask(a->reader, &ask);
}

static void make(struct app *a, struct screen *s)
{
    struct scene sc = {.model = a->model, .ui = &a->ui, .table = &a->table};

    terminal_size(&a->w, &a->h);
    if (!is_saying(a))
        a->ui.message[0] = '\0';
    a->ui.now = app_now(a);
    sc.fresh = model_fresh(a->model, a->ui.now, a->ui.interval_ms);
    sc.now = model_now(a->model, a->ui.now);
    table_release(&a->table);
    ui_build(&a->ui, a->model, &a->table);
    if (a->table.lines.n && (!ui_place(&a->ui)->selected[0] || !a->ui.follows))
        ui_select(&a->ui, &a->table, ui_selected(&a->ui, &a->table));
    screen_init(s, a->w, a->h, a->glyphs);
    draw(s, &sc);
}

static void redraw(struct app *a)
{
    struct screen s;

    make(a, &s);
    terminal_paint(&s);
    screen_release(&s);
    tell_reader(a);
}

void app_text(struct app *a, struct buf *out)
{
    struct screen s;

    make(a, &s);
    screen_text(&s, out, false);
    screen_release(&s);
}

/* ---- samples --------------------------------------------------------------------------------------------------------- */

static void absorb(struct app *a, struct sample *s)
{
    struct mono at = sample_moment(s, a->ui.is_recording);

    if (a->ui.is_recording && !a->model->n_samples)
        a->model->began = at;
    model_absorb(a->model, s, at);
}

static void hold(struct app *a, struct sample *s)
{
    if (a->held.n >= 1800) { /* an hour; the oldest go */
        sample_free(a->held.v[0]);
        memmove(a->held.v, a->held.v + 1, --a->held.n * sizeof(*a->held.v));
    }
    *LIST_ADD(&a->held) = s;
    a->ui.waiting++;
}

void app_resume(struct app *a)
{
    for (size_t i = 0; i < a->held.n; i++)
        absorb(a, a->held.v[i]);
    a->held.n = 0;
    a->ui.waiting = 0;
    a->ui.is_paused = false;
}

static bool take_samples(struct app *a)
{
    struct sample *s;
    bool any = false;

    while ((s = reader_take(a->reader))) {
        sample_record(a->record, s);
        any = true;
        if (a->ui.is_paused)
            hold(a, s);
        else
            absorb(a, s);
    }
    return any;
}

/* ---- waiting --------------------------------------------------------------------------------------------------------- */

/* While all is well the next drawing comes with the next sample; a late one is shown as late. */
static int wait_ms(const struct app *a)
{
    struct fresh f = model_fresh(a->model, app_now(a), a->ui.interval_ms);

    if (is_saying(a) || f.kind == FRESH_WAITING)
        return 1000;
    if (a->ui.is_recording)
        return 60000;
    return f.kind == FRESH_LIVE ? (int)(4 * a->ui.interval_ms) : 1000;
}

static bool is_lost(const struct app *a)
{
    struct fresh f = model_fresh(a->model, app_now(a), a->ui.interval_ms);

    return a->o->exit_on_loss_s &&
           (f.kind == FRESH_STALE || f.kind == FRESH_AUTH || f.kind == FRESH_WAITING ||
            f.kind == FRESH_SLOW) &&
           f.age_us >= a->o->exit_on_loss_s * 1000000;
}

static int take_keys(struct app *a)
{
    int flags = 0;

    for (;;) {
        struct terminal_key k = terminal_key();

        if (k.kind == KEY_IS_NONE)
            return flags;
        if (k.kind == KEY_IS_UNKNOWN)
            continue;
        if (k.kind == KEY_IS_RESIZE)
            flags |= APP_REPAINT | APP_REDRAW;
        else if (k.kind == KEY_IS_MOUSE)
            flags |= app_mouse(a, &k);
        else
            flags |= app_key(a, k.name);
        if (flags & APP_QUIT)
            return flags;
        if (flags & (APP_REDRAW | APP_RESCAN)) { /* the next key acts on what this one did */
            table_release(&a->table);
            a->ui.now = app_now(a);
            ui_build(&a->ui, a->model, &a->table);
        }
    }
}

static int loop(struct app *a)
{
    struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                            {.fd = reader_fd(a->reader), .events = POLLIN}};

    redraw(a);
    while (!top_stop) {
        int n = poll(fds, 2, wait_ms(a)), flags = 0;

        if (n < 0 && errno != EINTR)
            return CLI_FAILED;
        if (fds[0].revents & (POLLHUP | POLLERR | POLLNVAL) && !(fds[0].revents & POLLIN))
            return CLI_OK; /* the terminal went away */
        if (n > 0 && fds[1].revents)
            (void)take_samples(a);
        flags = take_keys(a);
        if (flags & APP_QUIT)
            return CLI_OK;
        if (is_lost(a))
            return CLI_NO_ANSWER;
        if (flags & APP_REPAINT)
            terminal_repaint();
        redraw(a);
        if (flags & APP_RESCAN)
            reader_hurry(a->reader);
    }
    return 128 + top_stop;
}

/* ---- life ------------------------------------------------------------------------------------------------------------ */

/* Options over settings over what is built in. */
static bool set_up(struct app *a, struct err *err)
{
    const struct options *o = a->o;

    ui_init(&a->ui);
    a->glyphs = glyphs_auto();
    a->conf_path = o->conf ? o->conf : conf_default_path(a->conf_buffer, sizeof(a->conf_buffer));
    if (!o->no_config && a->conf_path && !conf_load(a, a->conf_path, err))
        return false;
    if (o->theme)
        (void)theme_parse(o->theme, &a->ui.theme);
    if (o->is_mono || !term_wants_color(stdout, TERM_COLOR_AUTO))
        a->ui.theme = THEME_MONO;
    if (o->glyphs)
        (void)glyphs_parse(o->glyphs, &a->glyphs);
    where_context(&o->where, a->ui.context, sizeof(a->ui.context));
    return options_apply(o, &a->ui, err);
}

static bool open_source(struct app *a, struct err *err)
{
    struct source first, second;
    struct ask ask = {.most = KEYS_PER_READ};

    a->where = a->o->where;
    if (where_open(&a->where, &top_stop, &first, &second, err))
        return false;
    ask_for(&ask, a->ui.view, "", false);
    a->ui.is_recording = first.ops->is_recording;
    a->reader = reader_new(first, second, a->ui.interval_ms, &ask);
    return true;
}

static void release(struct app *a)
{
    int was = top_stop;

    top_stop = was ? was : 15; /* a call that is under way ends */
    reader_free(a->reader, LEAVE_MS);
    top_stop = was;
    for (size_t i = 0; i < a->held.n; i++)
        sample_free(a->held.v[i]);
    LIST_RELEASE(&a->held);
    table_release(&a->table);
    model_free(a->model);
    if (a->record)
        (void)fclose(a->record);
}

int app_run(const struct options *o)
{
    struct app *a = calloc(1, sizeof(*a));
    struct err err = {0};
    int rc;

    if (!a)
        abort();
    a->o = o;
    a->model = model_new(mono_now());
    if (!set_up(a, &err)) {
        rc = top_fail(CLI_USAGE, &err);
    } else if (o->record && !(a->record = fopen(o->record, "we"))) {
        (void)err_set(&err, ERR_IO, "cannot write '%s'", o->record);
        rc = top_fail(CLI_FAILED, &err);
    } else if (!terminal_start(a->ui.theme, o->is_mono || a->ui.theme == THEME_MONO, &err)) {
        rc = top_fail(CLI_USAGE, &err);
    } else if (!open_source(a, &err)) {
        terminal_stop();
        rc = top_fail(err.code == ERR_NOT_FOUND ? CLI_NOT_FOUND : CLI_USAGE, &err);
    } else {
        terminal_mouse(a->ui.has_mouse);
        rc = loop(a);
        terminal_stop();
    }
    release(a);
    free(a);
    return rc;
}
