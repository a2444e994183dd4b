/* SPDX-License-Identifier: Apache-2.0 */
/* Values as people read them, within few cells. Pure. */
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "aigwtop/view/draw_priv.h"
#include "libshared/cli/human.h"

_Static_assert(VALUE_CAP >= HUMAN_CAP, "what is formatted there fits here");

unsigned style_of(enum level l)
{
    static const unsigned STYLES[] = {[LEVEL_NONE] = STYLE_PLAIN,
                                      [LEVEL_OK] = STYLE_OK,
                                      [LEVEL_WARN] = STYLE_WARN,
                                      [LEVEL_CRIT] = STYLE_CRIT,
                                      [LEVEL_STALE] = STYLE_STALE};

    return STYLES[l];
}

const char *mark_of(const struct screen *s, enum level l)
{
    static const enum glyph MARKS[] = {[LEVEL_NONE] = GLYPH_OK,
                                       [LEVEL_OK] = GLYPH_OK,
                                       [LEVEL_WARN] = GLYPH_WARN,
                                       [LEVEL_CRIT] = GLYPH_CRIT,
                                       [LEVEL_STALE] = GLYPH_STALE};

    return glyph(s, MARKS[l]);
}

void clock_text(char dst[VALUE_CAP], int64_t us)
{
    time_t t = (time_t)(us / 1000000);
    struct tm tm;

    if (us <= 0 || !gmtime_r(&t, &tm))
        (void)snprintf(dst, VALUE_CAP, "-");
    else
        (void)strftime(dst, VALUE_CAP, "%H:%M:%S", &tm);
}

void short_age(char dst[VALUE_CAP], double s)
{
    if (s < 60)
        (void)snprintf(dst, VALUE_CAP, "%.0fs", floor(s));
    else if (s < 3600)
        (void)snprintf(dst, VALUE_CAP, "%.0fm", floor(s / 60));
    else if (s < 86400)
        (void)snprintf(dst, VALUE_CAP, "%.0fh", floor(s / 3600));
    else
        (void)snprintf(dst, VALUE_CAP, "%.0fd", floor(s / 86400));
}

static void age_text(char dst[VALUE_CAP], double s, unsigned width)
{
    if (width < 5 || s > 1e9)
        short_age(dst, s);
    else
        human_duration(dst, (int64_t)s);
}

static void dollars_text(char dst[VALUE_CAP], double v)
{
    double a = fabs(v);

    if (a >= 9999.5)
        human_count(dst, (uint64_t)a);
    else
        (void)snprintf(dst, VALUE_CAP, "%.*f", a >= 0.0995 || a == 0 ? 2 : a >= 0.00995 ? 3 : 5, v);
}

static void rate_text(char dst[VALUE_CAP], double v)
{
    if (v >= 9999.5)
        human_count(dst, (uint64_t)v);
    else
        human_rate(dst, v);
}

static void number_text(char dst[VALUE_CAP], double v, enum form form, unsigned width)
{
    switch (form) {
    case FORM_RATE:
        rate_text(dst, v);
        break;
    case FORM_PERCENT:
        (void)snprintf(dst, VALUE_CAP, "%.1f", v * 100);
        break;
    case FORM_WHOLE:
        (void)snprintf(dst, VALUE_CAP, "%.0f%%", v * 100);
        break;
    case FORM_MS:
        human_ms(dst, v < 0 ? 0 : v);
        break;
    case FORM_DOLLARS:
        dollars_text(dst, v);
        break;
    case FORM_USD:
        human_usd(dst, (int64_t)llround(v * 1e9));
        break;
    case FORM_COUNT:
        human_count(dst, v < 0 ? 0 : (uint64_t)llround(v));
        break;
    case FORM_AGE:
        age_text(dst, v < 0 ? 0 : v, width);
        break;
    case FORM_CLOCK:
        clock_text(dst, (int64_t)(v * 1e6));
        break;
    case FORM_SCORE:
        (void)snprintf(dst, VALUE_CAP, "%.1f", v);
        break;
    default:
        (void)snprintf(dst, VALUE_CAP, "%.4g", v);
    }
}

bool value_text(char dst[VALUE_CAP], const struct screen *s, const struct value *v, enum form form,
                unsigned width)
{
    (void)s;
    if (v->kind == VALUE_TEXT) {
        (void)snprintf(dst, VALUE_CAP, "%.95s", v->z);
        return false;
    }
    if (v->kind != VALUE_NUMBER || isnan(v->n)) {
        (void)snprintf(dst, VALUE_CAP, "-");
        return form != FORM_NAME && form != FORM_TEXT && form != FORM_STATUS && form != FORM_BREAKER &&
               form != FORM_CLOCK;
    }
    number_text(dst, v->n, form, width);
    return form != FORM_CLOCK;
}
