/* SPDX-License-Identifier: Apache-2.0 */
/* What a store writer spends on a record: CPU of its thread, from the journal to the store's answer. Stores: one that
 * forgets everything, the realtime store in memory, SQLite in a temporary folder.
 *   bench_writer [REQUESTS [PER-BATCH]]      each is a RESERVE, an ATTEMPT and a SETTLE */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "gatewayd/journal/targets.h"

static char dir[64];
static struct journal *journal;
static unsigned requests = 100000, per_batch = 1000;

static int64_t cpu_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static label numbered(const char *prefix, unsigned i)
{
    char text[32];

    return intern(span_make(text, (size_t)snprintf(text, sizeof(text), "%s-%u", prefix, i)));
}

static void must(enum err_code e)
{
    if (e) {
        (void)fprintf(stderr, "%s\n", err_row(e)->name);
        exit(1);
    }
}

/* Twenty models, fifty keys. */
static void one(unsigned n)
{
    struct wall at = {wall_now().us - 3000000};
    struct fact_context c = {id_mint(at), at, numbered("tenant", n % 10), numbered("key", n % 50), OP_CHAT};
    struct fact_reservation r = {900000, at, PERIOD_DAY, PERIOD_MONTH, PERIOD_MONTH};
    struct fact_open o = {.context = c, .reservation = r};
    struct fact_attempt a[FACT_ATTEMPTS] = {{.provider = numbered("provider", n % 5),
                                             .model = numbered("vendor/model", n % 20),
                                             .http_status = 200,
                                             .number = 1,
                                             .duration_us = 1000 + (int64_t)(n * 7919u % 2900000),
                                             .ttft_us = 900,
                                             .usage = {.input = 100, .output = 20, .source = USAGE_REPORTED},
                                             .cost_nanousd = 12345,
                                             .is_priced = true}};
    struct fact_request rq = {.id = c.request,
                              .arrived = at,
                              .tenant = c.tenant,
                              .key = c.key,
                              .provider = a->provider,
                              .model = a->model,
                              .requested = a->model,
                              .method = intern_z("POST"),
                              .endpoint = intern_z("/v1/chat/completions"),
                              .op = OP_CHAT,
                              .http_status = 200,
                              .attempts = 1,
                              .duration_us = a->duration_us + 100,
                              .ttft_us = 1000,
                              .usage = a->usage,
                              .cost_nanousd = 12345,
                              .is_priced = true,
                              .reservation = r};

    must(journal_reserve(journal, &o));
    must(journal_attempt(journal, &c, a));
    must(journal_settle(journal, &rq, a));
}

/* ---- a store that forgets ---- */

static enum err_code null_watermark(void *self, struct watermark *out, struct err *err)
{
    (void)self;
    (void)err;
    *out = (struct watermark){0};
    return ERR_OK;
}
static void null_begin(void *self)
{
    (void)self;
}
static void null_take(void *self, const struct journal_record *rec)
{
    (void)self;
    (void)rec;
}
static enum store_result null_apply(void *self, const struct watermark *from, const struct watermark *next,
                                    struct err *err)
{
    (void)self;
    (void)from;
    (void)next;
    (void)err;
    return STORE_APPLIED;
}
static const struct target_ops NOTHING = {.name = "nothing",
                                          .types = UINT32_MAX,
                                          .watermark = null_watermark,
                                          .begin = null_begin,
                                          .take = null_take,
                                          .apply = null_apply};

static void measure(const struct target_ops *ops, void *self)
{
    struct err err = {0};
    struct writer_options o = {.ops = ops, .self = self, .journals = &journal, .n_journals = 1};
    struct writer *w;
    struct writer_stats s;
    int64_t spent = 0;

    journal = journal_open(dir, 0, (size_t)256 << 20, &err);
    w = journal ? writer_new(&o, &err) : NULL;
    if (!w)
        exit(1);
    for (unsigned n = 0; n < requests; n++) {
        int64_t before;

        one(n);
        if ((n + 1) % per_batch)
            continue;
        before = cpu_ns();
        writer_wake_mt(w);
        (void)writer_step(w);
        writer_wake_mt(w);
        (void)writer_step(w);
        spent += cpu_ns() - before;
        journal_free_committed(journal);
        must(journal_tend(journal, &err));
    }
    writer_stats_mt(w, &s);
    (void)printf("%-9s %8.0f ns a record, %8.0f ns a request, %llu batches, %llu records, errors %llu\n",
                 ops->name, (double)spent / (double)s.records, (double)spent / (double)s.records * 3,
                 (unsigned long long)s.batches, (unsigned long long)s.records, (unsigned long long)s.errors);
    writer_free(w);
    journal_close(journal);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static void anew(void)
{
    (void)snprintf(dir, sizeof(dir), "/tmp/gatewayd-bench-XXXXXX");
    if (!mkdtemp(dir))
        exit(1);
}

static void forget(void)
{
    (void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(int argc, char **argv)
{
    struct err err = {0};
    char path[128];
    struct rusage ru;

    if (argc > 1)
        requests = (unsigned)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        per_batch = (unsigned)strtoul(argv[2], NULL, 10);
    anew();
    measure(&NOTHING, NULL);
    forget();

    anew();
    struct realtime_options ro = {.kv = kv_new(&(struct kv_options){.url = ""}, &err), .instance = "bench"};

    measure(&TARGET_REALTIME, target_realtime_new(&ro, &err));
    forget();

    anew();
    (void)snprintf(path, sizeof(path), "%s/history.db", dir);
    struct history_options ho = {.db = db_new(&(struct db_options){.url = path}, &err), .instance = "bench"};

    measure(&TARGET_HISTORY, target_history_new(&ho, &err));
    forget();
    (void)getrusage(RUSAGE_SELF, &ru);
    (void)printf("peak memory %ld KiB\n", ru.ru_maxrss);
    return 0;
}
