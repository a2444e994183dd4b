/* SPDX-License-Identifier: Apache-2.0 */
/* The driver: seeds, chance, time, the command line. libshared's clock.c and id.c are compiled here with their sources of
 * chance renamed away, so all else in them is what ships. */
#include "tests/dst/guards/guards.h"

#define mono_now     machine_mono_now
#define wall_now     machine_wall_now
#define random_bytes machine_random_bytes
#include "libshared/base/clock.c"
#include "libshared/base/id.c"
#undef mono_now
#undef wall_now
#undef random_bytes

#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/base/compiler.h"
#include "libshared/base/hash.h"
#include "libshared/base/log.h"
#include "tests/dst/chance.h"

struct guards guards;

static const char *const MUTANTS[] = {
    "none",
#define MUTANT(name) #name,
#include "tests/dst/guards/mutants.def"
#undef MUTANT
};
_Static_assert(ARRAY_LEN(MUTANTS) == GUARDS_MUTANTS, "every mutant has a name");

static const struct scene {
    const char *name;
    void (*run)(void);
} SCENES[] = {{"breakers", breakers_scene}, {"leases", leases_scene}};

static const struct scene *running;

/* ---- in place of the machine ---- */

struct mono mono_now(void);
struct wall wall_now(void);
void random_bytes(void *dst, size_t n);

struct mono mono_now(void)
{
    return (struct mono){guards.mono_us};
}
struct wall wall_now(void)
{
    return (struct wall){guards.wall_us + guards.skew_us};
}

void random_bytes(void *dst, size_t n)
{
    chance_bytes(&guards.random, dst, n);
}

/* ---- chance ---- */

uint64_t guards_random(void)
{
    return chance_next(&guards.random);
}
unsigned guards_below(unsigned n)
{
    return chance_below(&guards.random, n);
}
unsigned guards_between(unsigned from, unsigned to)
{
    return chance_between(&guards.random, from, to);
}
bool guards_strikes(unsigned one_in)
{
    return one_in && !guards.is_calm && guards_below(one_in) == 0;
}
unsigned guards_rare(unsigned one_in)
{
    return chance_rare(&guards.random, one_in);
}

/* ---- what happened ---- */

void guards_trace(const char *fmt, ...)
{
    char line[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    trace_mix(&guards.trace, line);
    guards.events++;
    if (guards.is_verbose)
        printf("%11.6f %s\n", (double)guards.mono_us / 1e6, line);
}

/* With a mutant it is what was hoped for. */
void guards_fail(const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    printf("seed %" PRIu64 " %s: %s: %s\n", guards.seed, guards.mutant ? "shows it" : "FAILED", running->name,
           text);
    if (!guards.mutant)
        printf("to see it again: dst_guards --seed %" PRIu64 " --scene %s -v\n", guards.seed, running->name);
    store_remove();
    exit(guards.mutant ? 0 : 1);
}

/* ---- seeds ---- */

static void run_seed(uint64_t seed, const struct scene *s, struct guards *from)
{
    guards = (struct guards){.seed = seed,
                             .random = seed * 0x2545f4914f6cdd1du + (uint64_t)(s - SCENES) + 1,
                             .trace = TRACE_BEGINS,
                             .is_verbose = from->is_verbose,
                             .mutant = from->mutant,
                             .mono_us = 1000000,
                             .wall_us = (int64_t)1795269000 * 1000000,
                             .events = from->events,
                             .faults = from->faults,
                             .checks = from->checks};
    running = s;
    store_begin();
    s->run();
    store_end();
    from->events = guards.events;
    from->faults = guards.faults;
    from->checks = guards.checks;
}

struct options {
    uint64_t seeds, from;
    bool is_one;
    const char *scene;
};

static int usage(void)
{
    fputs("usage: dst_guards [--seeds N] [--from S] [--scene NAME] [--mutant NAME]\n"
          "       dst_guards --seed S [--scene NAME] [-v]\n"
          "scenes:",
          stderr);
    for (size_t i = 0; i < ARRAY_LEN(SCENES); i++)
        fprintf(stderr, " %s", SCENES[i].name);
    fputs("\nmutants:", stderr);
    for (size_t i = 1; i < ARRAY_LEN(MUTANTS); i++)
        fprintf(stderr, " %s", MUTANTS[i]);
    fputs("\nWith --mutant something is broken on purpose: exit 0 when a seed shows it.\n", stderr);
    return 2;
}

static bool parse(int argc, char **argv, struct options *o)
{
    static const struct option LONG[] = {
        {"seeds", required_argument, NULL, 'n'}, {"from", required_argument, NULL, 'f'},
        {"seed", required_argument, NULL, 's'},  {"mutant", required_argument, NULL, 'm'},
        {"scene", required_argument, NULL, 'c'}, {0}};

    *o = (struct options){.seeds = 1000, .from = 1};
    for (int c; (c = getopt_long(argc, argv, "v", LONG, NULL)) != -1;) {
        if (c == 'n')
            o->seeds = strtoull(optarg, NULL, 10);
        else if (c == 'f' || c == 's')
            o->from = strtoull(optarg, NULL, 10);
        else if (c == 'v')
            guards.is_verbose = true;
        else if (c == 'c')
            o->scene = optarg;
        if (c == 's') {
            o->is_one = true;
            o->seeds = 1;
        }
        for (unsigned i = 1; c == 'm' && i < ARRAY_LEN(MUTANTS); i++)
            if (strcmp(optarg, MUTANTS[i]) == 0)
                guards.mutant = (enum guards_mutant)i;
        if (c == '?' || (c == 'm' && !guards.mutant))
            return false;
    }
    return optind == argc;
}

static void run_scenes(const struct options *o, uint64_t seed, struct guards *totals)
{
    for (size_t i = 0; i < ARRAY_LEN(SCENES); i++) {
        if (o->scene && strcmp(o->scene, SCENES[i].name) != 0)
            continue;
        run_seed(seed, &SCENES[i], totals);
        if (o->is_one)
            printf("seed %" PRIu64 " %s: trace %016" PRIx64 ", %" PRIu64 " events\n", seed, SCENES[i].name,
                   guards.trace, guards.events);
    }
}

int main(int argc, char **argv)
{
    struct options o;
    struct guards totals;

    if (!parse(argc, argv, &o))
        return usage();
    if (!guards.is_verbose)
        log_set_level((enum log_level) - 1); /* that stores fail is expected here */
    (void)hash_bytes(span_of("its key is drawn once, not from a seed"));
    totals = guards;
    for (uint64_t seed = o.from; seed < o.from + o.seeds; seed++) {
        run_scenes(&o, seed, &totals);
        if ((seed - o.from + 1) % 10000 == 0) {
            printf("… %" PRIu64 "\n", seed);
            (void)fflush(stdout);
        }
    }
    store_remove();
    printf("%" PRIu64 " seeds, %" PRIu64 " faults, %" PRIu64 " events, %" PRIu64 " checks\n", o.seeds,
           totals.faults, totals.events, totals.checks);
    return totals.mutant ? 1 : 0;
}
