/* SPDX-License-Identifier: Apache-2.0 */
/* Whole screens from recordings, compared with tests/golden/aigwtop. GOLDEN=write writes them anew, but never where CI is set. */
#include "tests/unit/cm.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aigwtop/source/source.h"
#include "aigwtop/view/ui.h"

#define DIR SOURCE_DIR "/tests/golden/aigwtop/"

struct shot {
    const char *name, *recording;
    unsigned w, h;
    enum glyphs glyphs;
    enum view view;
    enum overlay overlay;
    const char *provider; /* drill-down */
    const char *filter;
    void (*set)(struct ui *ui);
    int64_t later_s; /* drawn so long after the last sample */
};

static void open_acme(struct ui *ui)
{
    (void)snprintf(ui->places[VIEW_TENANTS].look.open[0], TOP_NAME, "acme");
    ui->places[VIEW_TENANTS].look.n_open = 1;
    (void)snprintf(ui->places[VIEW_TENANTS].selected, LINE_KEY, "acme");
}
static void pause_it(struct ui *ui)
{
    ui->is_paused = true;
    ui->waiting = 6;
}
static void group_errors(struct ui *ui)
{
    ui->places[VIEW_ERRORS].look.is_grouped = true;
}
static void context_prod(struct ui *ui)
{
    (void)snprintf(ui->context, sizeof(ui->context), "prod");
}
static void type_filter(struct ui *ui)
{
    (void)snprintf(ui->prompt, sizeof(ui->prompt), "err>5");
}
static void more_help(struct ui *ui)
{
    ui->overlay_at = 1;
}

#define SHOT(name_, recording_, w_, h_, glyphs_, ...)                                                        \
    {                                                                                                        \
        .name = (name_), .recording = (recording_), .w = (w_), .h = (h_), .glyphs = (glyphs_), __VA_ARGS__   \
    }

static const struct shot SHOTS[] = {
    SHOT("providers-80x24", "day", 80, 24, GLYPHS_BLOCK, .set = context_prod),
    SHOT("providers-80x24-ascii", "day", 80, 24, GLYPHS_ASCII, ),
    SHOT("providers-60x15-ascii", "day", 60, 15, GLYPHS_ASCII, .set = context_prod),
    SHOT("providers-40x10", "day", 40, 10, GLYPHS_BLOCK, ),
    SHOT("providers-100x30", "day", 100, 30, GLYPHS_BLOCK, ),
    SHOT("providers-160x50", "day", 160, 50, GLYPHS_BLOCK, ),
    SHOT("too-small-39x9", "day", 39, 9, GLYPHS_BLOCK, ),
    SHOT("filtered-80x24", "day", 80, 24, GLYPHS_BLOCK, .filter = "err>5"),
    SHOT("models-80x24", "day", 80, 24, GLYPHS_BLOCK, .view = VIEW_MODELS),
    SHOT("tenants-80x24", "day", 80, 24, GLYPHS_BLOCK, .view = VIEW_TENANTS, .set = open_acme),
    SHOT("tenants-160x50", "day", 160, 50, GLYPHS_BLOCK, .view = VIEW_TENANTS, .set = open_acme),
    SHOT("breakers-80x24", "day", 80, 24, GLYPHS_BLOCK, .view = VIEW_BREAKERS),
    SHOT("errors-80x24", "day", 80, 24, GLYPHS_BLOCK, .view = VIEW_ERRORS, .overlay = OVERLAY_ERROR,
         .set = pause_it),
    SHOT("errors-grouped-80x24", "day", 80, 24, GLYPHS_BLOCK, .view = VIEW_ERRORS, .set = group_errors),
    SHOT("latency-80x24", "day", 80, 24, GLYPHS_BLOCK, .view = VIEW_LATENCY),
    SHOT("anomalies-80x24", "day", 80, 24, GLYPHS_BLOCK, .view = VIEW_ANOMALIES),
    SHOT("drill-80x24", "day", 80, 24, GLYPHS_BLOCK, .provider = "fireworks"),
    SHOT("drill-80x24-braille", "day", 80, 24, GLYPHS_BRAILLE, .provider = "fireworks"),
    SHOT("help-80x24", "day", 80, 24, GLYPHS_BLOCK, .overlay = OVERLAY_HELP),
    SHOT("help-more-80x24", "day", 80, 24, GLYPHS_BLOCK, .overlay = OVERLAY_HELP, .set = more_help),
    SHOT("help-100x40", "day", 100, 40, GLYPHS_BLOCK, .overlay = OVERLAY_HELP),
    SHOT("setup-80x24", "day", 80, 24, GLYPHS_BLOCK, .overlay = OVERLAY_SETUP),
    SHOT("columns-80x24", "day", 80, 24, GLYPHS_BLOCK, .overlay = OVERLAY_COLUMNS),
    SHOT("sort-60x15", "day", 60, 15, GLYPHS_BLOCK, .overlay = OVERLAY_SORT),
    SHOT("export-80x24", "day", 80, 24, GLYPHS_BLOCK, .overlay = OVERLAY_EXPORT),
    SHOT("command-80x24", "day", 80, 24, GLYPHS_BLOCK, .view = VIEW_BREAKERS, .overlay = OVERLAY_COMMAND),
    SHOT("prompt-80x24", "day", 80, 24, GLYPHS_BLOCK, .overlay = OVERLAY_FILTER, .set = type_filter),
    SHOT("slow-80x24", "day", 80, 24, GLYPHS_BLOCK, .later_s = 7),
    SHOT("stale-80x24", "day+lost", 80, 24, GLYPHS_BLOCK, ),
    SHOT("no-writer-80x24", "day+silent", 80, 24, GLYPHS_BLOCK, ),
    SHOT("refused-80x24", "refused", 80, 24, GLYPHS_BLOCK, ),
    SHOT("empty-80x24", "empty", 80, 24, GLYPHS_BLOCK, ),
    SHOT("hostile-80x24", "hostile", 80, 24, GLYPHS_BLOCK, ),
    SHOT("hostile-80x24-ascii", "hostile", 80, 24, GLYPHS_ASCII, ),
};

struct tape {
    struct mono at;
    int64_t first_us;
};

/* Samples are taken in as far apart as they were made. */
static void play(struct model *m, struct span recording, struct tape *tape)
{
    struct err err = {0};
    struct ask ask = {0};
    char path[512];
    struct source s;

    (void)snprintf(path, sizeof(path), DIR "%.*s.ndjson", (int)recording.len, recording.p);
    s = source_replay(path, &err);
    if (!s.ops)
        fail_msg("%s", err_text(&err));
    while (!source_replay_is_over(&s)) {
        struct sample *sample = sample_new();

        assert_int_equal(s.ops->read(s.self, &ask, sample, &err), ERR_OK);
        tape->first_us = tape->first_us ? tape->first_us : sample->now.us;
        tape->at.us = 1000000 + sample->now.us - tape->first_us;
        model_absorb(m, sample, tape->at);
    }
    source_free(&s);
}

struct tale {
    const char *recordings;
    struct model *model;
    struct mono at; /* of the last sample */
};

/* One recording after the other, each row of them played once: drawing changes no model. */
static const struct tale *tale_of(const char *recordings)
{
    static struct tale tales[8];
    struct span rest = span_of(recordings);
    struct tape tape = {0};
    size_t i = 0;

    while (tales[i].recordings && strcmp(tales[i].recordings, recordings) != 0)
        assert_true(++i < ARRAY_LEN(tales));
    if (tales[i].recordings)
        return &tales[i];
    tales[i] = (struct tale){recordings, model_new((struct mono){0}), {0}};
    while (rest.len)
        play(tales[i].model, span_split(&rest, '+'), &tape);
    tales[i].at = tape.at;
    return &tales[i];
}

static void shoot(const struct shot *shot, struct buf *out)
{
    const struct tale *tale = tale_of(shot->recording);
    struct ui *ui = malloc(sizeof(*ui));
    struct screen s;
    struct table t;
    struct scene sc;
    struct err err = {0};

    assert_non_null(ui);
    ui_init(ui);
    ui->now = mono_add_us(tale->at, shot->later_s * 1000000);
    ui->view = shot->view;
    ui->overlay = shot->overlay;
    ui->is_drill = shot->provider != NULL;
    (void)snprintf(ui->provider, sizeof(ui->provider), "%s", shot->provider ? shot->provider : "");
    if (shot->filter)
        assert_true(look_set_filter(&ui_place(ui)->look, shot->view, shot->filter, &err));
    if (shot->set)
        shot->set(ui);
    ui_build(ui, tale->model, &t);
    sc = (struct scene){.model = tale->model,
                        .ui = ui,
                        .table = &t,
                        .fresh = model_fresh(tale->model, ui->now, ui->interval_ms),
                        .now = model_now(tale->model, ui->now)};
    screen_init(&s, shot->w, shot->h, shot->glyphs);
    draw(&s, &sc);
    screen_text(&s, out, true);
    screen_release(&s);
    table_release(&t);
    free(ui);
}

/* The version is not the screen's matter. */
static void forget_version(struct buf *b)
{
    char *at = b->p ? strstr(b->p, "Version " GATEWAYD_VERSION) : NULL;

    if (at)
        memset(at + 8, 'v', sizeof(GATEWAYD_VERSION) - 1);
}

static bool writes(void)
{
    const char *wish = getenv("GOLDEN"), *ci = getenv("CI");

    return wish && strcmp(wish, "write") == 0 && (!ci || !*ci);
}

static void compare(const struct shot *shot, const struct buf *got)
{
    char path[512], *want = calloc(1, 1 << 20);
    FILE *f;
    size_t n = 0;

    assert_non_null(want);
    (void)snprintf(path, sizeof(path), DIR "%s.txt", shot->name);
    if (writes()) {
        f = fopen(path, "we");
        assert_non_null(f);
        assert_int_equal(fwrite(got->p, 1, got->len, f), got->len);
        assert_int_equal(fclose(f), 0);
    }
    f = fopen(path, "re");
    if (f) {
        n = fread(want, 1, (1 << 20) - 1, f);
        (void)fclose(f);
    }
    if (n != got->len || memcmp(want, got->p, n) != 0)
        fail_msg("screen '%s' is not the golden one (GOLDEN=write writes it):\n%s\ninstead of:\n%s",
                 shot->name, got->p, want);
    free(want);
}

static void test_screens_are_the_golden_ones(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(SHOTS); i++) {
        struct buf got AUTO(buf_release) = {0};

        shoot(&SHOTS[i], &got);
        forget_version(&got);
        compare(&SHOTS[i], &got);
    }
}

/* No size may break the drawing, however small. */
static void test_every_size_can_be_drawn(void **state)
{
    static const unsigned WIDTHS[] = {1, 2, 20, 39, 40, 41, 59, 60, 79, 80, 81, 99, 100, 159, 160, 300};
    static const unsigned HEIGHTS[] = {1, 2, 5, 9, 10, 11, 12, 15, 16, 19, 20, 23, 24, 25, 31, 60};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(WIDTHS); i++)
        for (size_t k = 0; k < ARRAY_LEN(HEIGHTS); k++) {
            struct shot shot = SHOTS[(i * 7 + k) % ARRAY_LEN(SHOTS)];
            struct buf got AUTO(buf_release) = {0};
            unsigned lines = 0;

            shot.w = WIDTHS[i];
            shot.h = HEIGHTS[k];
            shoot(&shot, &got);
            for (size_t c = 0; c < got.len; c++)
                lines += got.p[c] == '\n';
            assert_true(lines >= shot.h);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_screens_are_the_golden_ones),
        cmocka_unit_test(test_every_size_can_be_drawn),
    };

    assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
