/* SPDX-License-Identifier: Apache-2.0 */
/* How each family follows from the facts: which cells, which words of them, grouped by the labels that the
 * family has. A new family is one row of metrics.def and one row here. */
#ifndef TELEMETRY_PROJECTIONS_H
#define TELEMETRY_PROJECTIONS_H

#include "gatewayd/telemetry/lines.h"
#include "gatewayd/telemetry/process.h"

/* Parts of a kind's key, by the label names that families use for them. */
enum part_form {
    PART_NONE,
    PART_LABEL,
    PART_NUMBER,
    PART_FACT_STATUS,
    PART_STREAM_END,
    PART_ERROR_TYPE,
    PART_TIER,
    PART_PRIORITY,
    PART_GENAI_OPERATION, /* high byte */
    PART_GENAI_ERROR,     /* low byte: 0, or an error_type plus one */
    PART_GENAI_TOKEN      /* low byte */
};
#define KIND_PARTS (CELLS_PARTS + 1) /* the last part of a key may hold two labels */
static inline unsigned kind_part(unsigned i)
{
    return i < CELLS_PARTS ? i : CELLS_PARTS - 1;
}
struct kind_row {
    struct {
        const char *name;
        enum part_form form;
    } parts[KIND_PARTS];
    unsigned observed_word, observed_n; /* these words add up to the number of observations */
};
const struct kind_row *kind_row(enum facts_kind k);
/* Text of a part as a label value. `tmp` backs numbers. */
struct span part_text(struct lines *l, enum part_form form, unsigned value, char tmp[8]);

enum measure {
    MEASURE_WORDS,     /* counters: word, n_children, unit */
    MEASURE_HISTOGRAM, /* a times_<set>: word is its sum */
    MEASURE_WINDOW,    /* window_offset */
    MEASURE_STATE,     /* state */
};

struct scrape { /* what state families are made of */
    const struct metrics_state *state;
    struct process_stats process;
    struct snapshot *snapshot;
};

struct projection {
    enum measure measure;
    enum facts_kind kind;
    unsigned word;
    /* That many words, one for each value of the family's last label; 0: the word itself. */
    unsigned n_children;
    const char *(*child_name)(unsigned child);
    enum lines_unit unit;
    unsigned from_status;    /* HTTP: only status codes from here on */
    size_t exemplars_offset; /* in the cell */
    size_t window_offset;    /* of a double in struct window_stats */
    void (*state)(struct lines *l, const struct scrape *s);
};
const struct projection *projection(enum metric m);

#endif
