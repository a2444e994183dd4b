/* SPDX-License-Identifier: Apache-2.0 */
/* The realtime store by hand: `kvtool URL [DEADLINE_MS]` reads one operation a line from its standard input, fields
 * separated by tabs, and answers each that asks for something with one line of JSON. Written for
 * tests/e2e/test_kv_topology.py.
 *
 *   add KEY FIELD DELTA · set KEY FIELD VALUE · unset KEY FIELD · push KEY VALUE KEEP · index KEY MEMBER SCORE
 *   event KEY JSON KEEP · delete KEY · expire KEY SECONDS [exact] · clear      fill the batch; no answer
 *   apply INSTANCE BATCH TOKEN NEXT_BATCH NEXT_TOKEN POSITIONS                 the batch stays for another attempt
 *   refill INSTANCE NEXT_BATCH NEXT_TOKEN POSITIONS · write
 *   watermark INSTANCE · hash KEY · range KEY MIN MAX · list KEY N · events KEY N · scan PREFIX */
#include <stdio.h>
#include <stdlib.h>

#include "libshared/base/buf.h"
#include "libshared/store/kv.h"

#define WORDS 8

struct tool {
    struct kv *kv;
    struct kv_batch *batch;
    char *word[WORDS];
    unsigned n;
    struct buf rows;
};

static const char *word(const struct tool *t, unsigned i)
{
    if (i < t->n)
        return t->word[i];
    fprintf(stderr, "kvtool: '%s' needs more fields\n", t->word[0]);
    exit(2);
}

static int64_t number(const struct tool *t, unsigned i)
{
    char *end;
    long long v = strtoll(word(t, i), &end, 10);

    if (*end || !*word(t, i)) {
        fprintf(stderr, "kvtool: '%s' is no number\n", word(t, i));
        exit(2);
    }
    return v;
}

static struct watermark watermark_at(const struct tool *t, unsigned i, bool has_positions)
{
    struct watermark w = {0};

    if (!span_to_u64(span_of(word(t, i)), &w.batch) || !span_to_u64(span_of(word(t, i + 1)), &w.token) ||
        (has_positions && !watermark_parse_positions(&w, span_of(word(t, i + 2))))) {
        fprintf(stderr, "kvtool: no watermark\n");
        exit(2);
    }
    return w;
}

static void on_row(void *user, struct span field, struct span value)
{
    struct buf *out = user;

    buf_addz(out, out->len ? ",[" : "[");
    buf_add_json(out, field);
    buf_addc(out, ',');
    buf_add_json(out, value);
    buf_addc(out, ']');
}

static void answer_error(const struct err *err)
{
    struct buf line AUTO(buf_release) = {0};

    buf_addf(&line, "{\"result\":\"failed\",\"error\":\"%s\",\"text\":", err_row(err->code)->name);
    buf_add_json(&line, span_of(err_text(err)));
    (void)printf("%s}\n", line.p);
}

static void answer_result(enum store_result r, const struct err *err)
{
    static const char *const NAMES[] = {"applied", "duplicate", "mismatch", "failed"};

    if (r == STORE_FAILED)
        answer_error(err);
    else
        (void)printf("{\"result\":\"%s\"}\n", NAMES[r]);
}

static void answer_watermark(struct tool *t)
{
    struct buf positions AUTO(buf_release) = {0};
    struct watermark w;
    struct err err = {0};
    bool found;

    if (kv_watermark(t->kv, word(t, 1), &w, &found, &err)) {
        answer_error(&err);
        return;
    }
    watermark_format_positions(&w, &positions);
    (void)printf("{\"result\":\"ok\",\"found\":%s,\"batch\":%llu,\"token\":%llu,\"positions\":\"%s\"}\n",
                 found ? "true" : "false", (unsigned long long)w.batch, (unsigned long long)w.token,
                 positions.len ? positions.p : "");
}

static bool fill(struct tool *t, const char *verb)
{
    if (strcmp(verb, "add") == 0)
        kv_batch_add(t->batch, word(t, 1), word(t, 2), number(t, 3));
    else if (strcmp(verb, "set") == 0)
        kv_batch_set(t->batch, word(t, 1), word(t, 2), span_of(word(t, 3)));
    else if (strcmp(verb, "unset") == 0)
        kv_batch_unset(t->batch, word(t, 1), word(t, 2));
    else if (strcmp(verb, "push") == 0)
        kv_batch_push(t->batch, word(t, 1), span_of(word(t, 2)), (unsigned)number(t, 3));
    else if (strcmp(verb, "index") == 0)
        kv_batch_index(t->batch, word(t, 1), word(t, 2), number(t, 3));
    else if (strcmp(verb, "event") == 0)
        kv_batch_event(t->batch, word(t, 1), span_of(word(t, 2)), (unsigned)number(t, 3));
    else if (strcmp(verb, "delete") == 0)
        kv_batch_delete(t->batch, word(t, 1));
    else if (strcmp(verb, "expire") == 0)
        kv_batch_expire(t->batch, word(t, 1), number(t, 2), t->n > 3);
    else if (strcmp(verb, "clear") == 0)
        kv_batch_clear(t->batch);
    else
        return false;
    return true;
}

static bool write_out(struct tool *t, const char *verb)
{
    struct watermark from, next;
    struct err err = {0};

    if (strcmp(verb, "apply") == 0) {
        from = watermark_at(t, 2, false);
        next = watermark_at(t, 4, true);
        answer_result(kv_apply(t->kv, word(t, 1), &from, &next, t->batch, &err), &err);
    } else if (strcmp(verb, "refill") == 0) {
        next = watermark_at(t, 2, true);
        answer_result(kv_refill(t->kv, word(t, 1), &next, t->batch, &err), &err);
    } else if (strcmp(verb, "begin") == 0) {
        answer_result(kv_begin(t->kv, &err) ? STORE_FAILED : STORE_APPLIED, &err);
    } else if (strcmp(verb, "write") == 0) {
        answer_result(kv_write(t->kv, t->batch, &err) ? STORE_FAILED : STORE_APPLIED, &err);
    } else {
        return false;
    }
    return true;
}

static bool read_rows(struct tool *t, const char *verb)
{
    struct err err = {0};
    enum err_code e;

    buf_clear(&t->rows);
    if (strcmp(verb, "hash") == 0)
        e = kv_hash(t->kv, word(t, 1), on_row, &t->rows, &err);
    else if (strcmp(verb, "range") == 0)
        e = kv_index(t->kv, word(t, 1), number(t, 2), number(t, 3), on_row, &t->rows, &err);
    else if (strcmp(verb, "list") == 0)
        e = kv_list(t->kv, word(t, 1), (unsigned)number(t, 2), on_row, &t->rows, &err);
    else if (strcmp(verb, "events") == 0)
        e = kv_events(t->kv, word(t, 1), (unsigned)number(t, 2), on_row, &t->rows, &err);
    else if (strcmp(verb, "scan") == 0)
        e = kv_scan(t->kv, word(t, 1), on_row, &t->rows, &err);
    else
        return false;
    if (e)
        answer_error(&err);
    else
        (void)printf("{\"result\":\"ok\",\"rows\":[%.*s]}\n", (int)t->rows.len, t->rows.len ? t->rows.p : "");
    return true;
}

static void run_line(struct tool *t, char *line)
{
    t->n = 0;
    line[strcspn(line, "\n")] = '\0';
    for (char *rest = line, *w; t->n < WORDS && (w = strsep(&rest, "\t"));)
        t->word[t->n++] = w;
    if (fill(t, t->word[0]) || write_out(t, t->word[0]) || read_rows(t, t->word[0]))
        return;
    if (strcmp(t->word[0], "watermark") == 0) {
        answer_watermark(t);
    } else {
        fprintf(stderr, "kvtool: no operation '%s'\n", t->word[0]);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct tool t = {.batch = kv_batch_new()};
    struct err err = {0};
    char *line = NULL;
    size_t cap = 0;

    if (argc < 2) {
        fprintf(stderr, "usage: kvtool URL [DEADLINE_MS]\n");
        return 2;
    }
    t.kv = kv_new(&(struct kv_options){.url = argv[1], .deadline_us = argc > 2 ? atoll(argv[2]) * 1000 : 0},
                  &err);
    if (!t.kv) {
        fprintf(stderr, "kvtool: %s\n", err_text(&err));
        return 2;
    }
    while (getline(&line, &cap, stdin) > 0) {
        run_line(&t, line);
        (void)fflush(stdout);
    }
    free(line);
    buf_release(&t.rows);
    kv_batch_free(t.batch);
    kv_free(t.kv);
    return 0;
}
