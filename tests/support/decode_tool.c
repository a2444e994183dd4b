/* SPDX-License-Identifier: Apache-2.0 */
/* Decodes recorded answers with the provider dialects, outside a gateway: `decode_tool DIRECTORY`.
 * DIRECTORY/manifest has one line per answer: file, kind, operation label, status, body kind (sse or other)
 * and content type, separated by tabs. Prints one JSON object per answer. Written for
 * tests/e2e/test_recorded.py. */
#include <stdio.h>
#include <stdlib.h>

#include "gatewayd/http/sse.h"
#include "gatewayd/provider/provider.h"
#include "libshared/base/buf.h"

struct job {
    struct span file, kind, op, status, body_kind, content_type;
};

struct tally {
    unsigned terminal, usage_only, content;
};

static enum operation operation_of(struct span label)
{
    for (int op = 0; op < OP_COUNT; op++)
        if (span_is(label, operation_row((enum operation)op)->label))
            return (enum operation)op;
    fprintf(stderr, "decode_tool: no operation '%.*s'\n", (int)label.len, label.p);
    exit(2);
}

static void read_file(struct buf *out, const char *dir, struct span name)
{
    char path[4096], block[65536];
    size_t n;
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/%.*s", dir, (int)name.len, name.p);
    f = fopen(path, "re");
    if (!f) {
        perror(path);
        exit(2);
    }
    while ((n = fread(block, 1, sizeof(block), f)) > 0)
        if (buf_append(out, block, n) != ERR_OK)
            exit(2);
    (void)fclose(f);
}

static void decode_stream(const struct provider_ops *ops, enum operation op, struct span body,
                          struct answer *a, struct tally *t)
{
    enum sse_result r;
    struct sse_event e;
    struct sse s;

    sse_init(&s, (size_t)16 << 20, (size_t)32 << 20);
    for (size_t i = 0; i < body.len; i += 777) { /* any split will do; sse has tests of its own */
        size_t n = body.len - i < 777 ? body.len - i : 777;

        if (sse_feed(&s, span_make(body.p + i, n)) != ERR_OK)
            exit(2);
        while ((r = sse_next(&s, &e)) == SSE_EVENT) {
            struct event_view v;

            if (e.is_error_field)
                e.type = SPAN_LIT("error");
            if (!e.has_data && !e.is_error_field)
                continue;
            v = ops->decode_event(a, op, e.type, e.data);
            t->terminal += v.is_terminal;
            t->usage_only += v.is_usage_only;
            t->content += v.has_content;
        }
        if (r != SSE_MORE)
            exit(2);
    }
    sse_release(&s);
}

static void print_answer(const struct job *j, const struct answer *a, const struct tally *t,
                         const struct failure *f)
{
    static const char *const ENDS[] = {"open", "done", "error"};
    struct buf line AUTO(buf_release) = {0};
    const struct usage *u = &a->usage;

    buf_addz(&line, "{\"file\":");
    buf_add_json(&line, j->file);
    buf_addf(&line, ",\"end\":\"%s\",\"error\":", ENDS[a->end]);
    buf_add_json(&line, span_of(a->end == ANSWER_ERROR ? err_row(a->error)->name : ""));
    buf_addz(&line, ",\"error_text\":");
    buf_add_json(&line, span_of(a->error_text));
    buf_addz(&line, ",\"finish\":");
    buf_add_json(&line, span_of(a->finish));
    buf_addz(&line, ",\"model\":");
    buf_add_json(&line, span_of(a->model));
    buf_addf(&line, ",\"reported\":%s,\"input\":%llu,\"cached\":%llu,\"cache_write\":%llu,\"output\":%llu",
             u->source == USAGE_REPORTED ? "true" : "false", (unsigned long long)u->input,
             (unsigned long long)u->cached, (unsigned long long)u->cache_write,
             (unsigned long long)u->output);
    buf_addf(&line, ",\"reasoning\":%llu,\"images\":%llu,\"searches\":%llu,\"chars\":%llu,\"events\":%llu",
             (unsigned long long)u->reasoning, (unsigned long long)u->images, (unsigned long long)u->searches,
             (unsigned long long)a->output_chars, (unsigned long long)a->output_events);
    buf_addf(&line, ",\"terminal\":%u,\"usage_only\":%u,\"content\":%u", t->terminal, t->usage_only,
             t->content);
    if (f) {
        buf_addf(&line,
                 ",\"failure\":\"%s\",\"is_retryable\":%s,\"is_next_only\":%s,\"is_breaker_failure\":%s,"
                 "\"reason\":",
                 err_row(f->code)->name, f->is_retryable ? "true" : "false",
                 f->is_next_only ? "true" : "false", f->is_breaker_failure ? "true" : "false");
        buf_add_json(&line, span_of(f->reason));
    }
    (void)printf("%.*s}\n", (int)line.len, line.p);
}

static void run_job(const char *dir, const struct job *j)
{
    char kind[64];
    struct buf body AUTO(buf_release) = {0};
    const struct answer_headers none = {0};
    const struct provider_ops *ops;
    struct tally tally = {0};
    struct answer a = {0};
    struct failure f;
    uint64_t status;

    (void)span_copy(kind, sizeof(kind), j->kind);
    ops = provider_ops_find(kind);
    if (!ops || !span_to_u64(j->status, &status)) {
        fprintf(stderr, "decode_tool: bad line for '%.*s'\n", (int)j->file.len, j->file.p);
        exit(2);
    }
    read_file(&body, dir, j->file);
    if (status >= 300) {
        f = ops->classify((int)status, &none, buf_span(&body), 0);
        print_answer(j, &a, &tally, &f);
        return;
    }
    if (span_is(j->body_kind, "sse"))
        decode_stream(ops, operation_of(j->op), buf_span(&body), &a, &tally);
    else
        ops->decode_body(&a, operation_of(j->op), j->content_type, buf_span(&body));
    print_answer(j, &a, &tally, NULL);
}

int main(int argc, char **argv)
{
    struct buf manifest AUTO(buf_release) = {0};
    struct span rest;

    if (argc != 2) {
        fprintf(stderr, "usage: decode_tool DIRECTORY\n");
        return 2;
    }
    read_file(&manifest, argv[1], SPAN_LIT("manifest"));
    rest = buf_span(&manifest);
    while (rest.len) {
        struct span line = span_split(&rest, '\n');
        struct job j;

        j.file = span_split(&line, '\t');
        j.kind = span_split(&line, '\t');
        j.op = span_split(&line, '\t');
        j.status = span_split(&line, '\t');
        j.body_kind = span_split(&line, '\t');
        j.content_type = line;
        run_job(argv[1], &j);
    }
    return 0;
}
