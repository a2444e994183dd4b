/* SPDX-License-Identifier: Apache-2.0 */
/* The books under deterministic simulation: production journal, recovery, writers, targets, budgets and SQLite on a virtual
 * clock, driven by a seed. Every seed is a few lives of a gateway that is killed again and again while its stores fail,
 * and a last one in which all ends well; then every book must say what was promised.
 *
 * The driver forks each life and meanwhile is its realtime store. Both take their chances from one stream, so a
 * seed gives the same trace every time; its hash is printed. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ftw.h>

#include "libshared/base/compiler.h"
#include "tests/dst/stores.h"

#define LAST_LIVES 2u /* calm ones: all drains, and once more to see that nothing is left */

struct totals {
    uint64_t seeds, lives, kills, faults, requests, records, recovered, refusals, events;
    uint64_t hits[CRASH_COUNT], deaths[CRASH_COUNT];
};

/* ---- one seed ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* How it ended; a life that is killed otherwise than by us has failed. */
static int judge(int status)
{
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    world_blame("life %u ended by signal %d", world->life, WTERMSIG(status));
    return LIFE_FAILED;
}

static int run_life(struct kv_serve *kv)
{
    int pair[2], status = 0;
    pid_t child;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        abort();
    (void)fflush(NULL);
    child = fork();
    if (child < 0)
        abort();
    if (child == 0) {
        (void)close(pair[0]);
        life_run(pair[1]);
    }
    (void)close(pair[1]);
    kv_serve_run(kv, pair[0]);
    (void)close(pair[0]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return judge(status);
}

static bool is_expected(int end)
{
    return end == LIFE_STOPPED || (!world->is_calm && (end == LIFE_DIED || end == LIFE_REFUSED));
}

static bool run_lives(struct kv_serve *kv)
{
    unsigned lives = world->plan.lives + LAST_LIVES;

    for (world->life = 1; world->life <= lives; world->life++) {
        int end;

        world->is_calm = world->life > world->plan.lives;
        world_trace("life %u begins", world->life);
        if (world->plan.is_memory_store && world->life > 1)
            kv_serve_empty(kv);
        end = run_life(kv);
        if (!is_expected(end))
            world_blame("life %u ended with %d; refused last: %s", world->life, end, world->refusal);
        if (world->failure[0])
            return false;
        world_advance(world_between(1000, 20000000)); /* until somebody starts it again */
    }
    return true;
}

static bool run_seed(uint64_t seed, const char *dir)
{
    struct kv_serve *kv;
    bool is_ok;

    world_begin(seed, dir);
    (void)nftw(world->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (mkdir(world->dir, 0700)) {
        world_blame("cannot create '%s': %s", world->dir, strerror(errno));
        return false;
    }
    kv = kv_serve_new();
    is_ok = run_lives(kv);
    kv_serve_free(kv);
    (void)nftw(world->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return is_ok;
}

static void add_totals(struct totals *t)
{
    t->seeds++;
    t->lives += world->life - 1;
    t->kills += world->kills;
    t->faults += world->faults;
    t->requests += world->n_requests;
    t->records += world->n_records;
    t->recovered += world->ended_by_recovery;
    t->refusals += world->refusals;
    t->events += world->events;
    for (unsigned i = 0; i < CRASH_COUNT; i++) {
        t->hits[i] += world->crash_hits[i];
        t->deaths[i] += world->crash_kills[i];
    }
}

static void print_totals(const struct totals *t, bool with_points)
{
    printf("%" PRIu64 " seeds, %" PRIu64 " lives, %" PRIu64 " killed, %" PRIu64 " faults, %" PRIu64
           " requests (%" PRIu64 " ended by recovery, %" PRIu64 " refused), %" PRIu64 " records, %" PRIu64
           " events\n",
           t->seeds, t->lives, t->kills, t->faults, t->requests, t->recovered, t->refusals, t->records,
           t->events);
    for (unsigned i = 0; with_points && i < CRASH_COUNT; i++)
        printf("  %-26s reached %8" PRIu64 " times, died there %6" PRIu64 "\n",
               crash_point_name((enum crash_point)i), t->hits[i], t->deaths[i]);
}

/* ---- the command line ---- */

struct options {
    uint64_t seeds, from;
    bool is_one, is_verbose, with_points;
    enum mutant mutant;
};

static int usage(void)
{
    fputs("usage: dst_books [--seeds N] [--from S] [--points] [--mutant "
          "double_settle|ack_before_commit|skipped_watermark|\n"
          "                 reset_missed|window_at_settle]\n"
          "       dst_books --seed S [-v]\n"
          "With --mutant the books are broken on purpose: exit 0 when a seed shows it.\n",
          stderr);
    return 2;
}

static bool parse_mutant(const char *name, enum mutant *out)
{
    static const char *const NAMES[] = {
        "none",         "double_settle",   "ack_before_commit", "skipped_watermark",
        "reset_missed", "window_at_settle"};

    for (unsigned i = 1; i < ARRAY_LEN(NAMES); i++)
        if (strcmp(name, NAMES[i]) == 0) {
            *out = (enum mutant)i;
            return true;
        }
    return false;
}

static bool parse(int argc, char **argv, struct options *o)
{
    static const struct option LONG[] = {
        {"seeds", required_argument, NULL, 'n'}, {"from", required_argument, NULL, 'f'},
        {"seed", required_argument, NULL, 's'},  {"mutant", required_argument, NULL, 'm'},
        {"points", no_argument, NULL, 'p'},      {0}};

    *o = (struct options){.seeds = 1000, .from = 1};
    for (int c; (c = getopt_long(argc, argv, "v", LONG, NULL)) != -1;) {
        if (c == 'n')
            o->seeds = strtoull(optarg, NULL, 10);
        else if (c == 'f' || c == 's')
            o->from = strtoull(optarg, NULL, 10);
        else if (c == 'v')
            o->is_verbose = true;
        else if (c == 'p')
            o->with_points = true;
        if (c == 's') {
            o->is_one = true;
            o->seeds = 1;
        }
        if (c == '?' || (c == 'm' && !parse_mutant(optarg, &o->mutant)))
            return false;
    }
    return optind == argc;
}

static const char *base_dir(char *dst, size_t cap)
{
    const char *tmp = getenv("TMPDIR");

    if (!tmp || !*tmp)
        tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(dst, cap, "%s/dst-books-XXXXXX", tmp);
    return mkdtemp(dst);
}

static int run_all(const struct options *o, const char *dir)
{
    struct totals *t = calloc(1, sizeof(*t));
    int rc = o->mutant ? 1 : 0;

    if (!t)
        abort();
    for (uint64_t seed = o->from; seed < o->from + o->seeds; seed++) {
        bool is_ok = run_seed(seed, dir);

        add_totals(t);
        if (o->is_one)
            printf("seed %" PRIu64 ": trace %016" PRIx64 ", %" PRIu64 " events\n", seed, world->trace,
                   world->events);
        if (!is_ok) {
            printf("seed %" PRIu64 " %s: %s\n", seed, o->mutant ? "shows it" : "FAILED", world->failure);
            if (!o->mutant)
                printf("to see it again: dst_books --seed %" PRIu64 " -v\n", seed);
            rc = o->mutant ? 0 : 1;
            break;
        }
        if ((seed - o->from + 1) % 10000 == 0) {
            printf("… %" PRIu64 "\n", seed);
            (void)fflush(stdout);
        }
    }
    print_totals(t, o->with_points);
    free(t);
    return rc;
}

int main(int argc, char **argv)
{
    struct options o;
    char dir[200];
    int rc;

    if (!parse(argc, argv, &o))
        return usage();
    (void)signal(SIGPIPE, SIG_IGN);
    if (!base_dir(dir, sizeof(dir))) {
        perror("dst_books: no temporary directory");
        return 2;
    }
    world_new();
    world->is_verbose = o.is_verbose;
    world->mutant = o.mutant;
    rc = run_all(&o, dir);
    (void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return rc;
}
