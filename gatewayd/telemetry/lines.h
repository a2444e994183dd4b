/* SPDX-License-Identifier: Apache-2.0 */
/* Writes sample lines of one family after the other in either text format. Knows syntax (names, escapes,
 * numbers, `le`, exemplars), not meaning. */
#ifndef TELEMETRY_LINES_H
#define TELEMETRY_LINES_H

#include "gatewayd/telemetry/exposition.h"
#include "gatewayd/telemetry/snapshot.h"
#include "libshared/catalog/metrics.h"

struct lines {
    struct buf *out;
    enum exposition_format format;
    const struct metric_row *row;
    char pieces[METRIC_LABELS_MAX + 1][48]; /* `{name="`, `",name="` … of the family */
    size_t piece_len[METRIC_LABELS_MAX + 1];
    struct buf head;     /* `name{…="…"` of the series at hand, up to its last label's closing quote */
    size_t name_len;     /* of the sample name in front */
    struct span *texts;  /* by label, filled when first used */
    struct buf *escaped; /* the few label texts that need escapes */
    size_t n_escaped;
};

/* What a number counts, hence how it is written. */
enum lines_unit { LINES_COUNT, LINES_US /* as seconds */, LINES_NANOUSD /* as dollars */ };

void lines_init(struct lines *l, struct buf *out, enum exposition_format format);
void lines_release(struct lines *l);
/* Escaped text of an interned label, valid until release. */
struct span lines_text(struct lines *l, label text);

/* HELP, TYPE and, where the name ends in it, UNIT. */
void lines_family(struct lines *l, enum metric m);
/* The series to which the following samples belong; one value per label of the family. */
void lines_series(struct lines *l, const struct span *values);
void lines_number(struct lines *l, enum lines_unit unit, uint64_t v);
void lines_double(struct lines *l, double v); /* NaN and infinities as the formats spell them */
/* Bucket counts, not cumulated; `exemplars` has one per bucket, those with at_us 0 are absent, or is NULL. */
void lines_histogram(struct lines *l, const struct metric_bounds *b, const uint64_t *n, uint64_t sum_us,
                     const struct latest *exemplars);
void lines_end(struct lines *l);

#endif
