/* SPDX-License-Identifier: Apache-2.0 */
/* The shared memory of a seed and everything that would otherwise come from the machine: both clocks, random bytes,
 * free space on the disk. libshared's own clock.c and id.c are compiled here with their sources of chance renamed
 * away, so all else in them is what ships. */
#include "tests/dst/world.h"

#define mono_now     machine_mono_now
#define wall_now     machine_wall_now
#define random_bytes machine_random_bytes
#include "libshared/base/clock.c"
#include "libshared/base/id.c"
#undef mono_now
#undef wall_now
#undef random_bytes

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/dst/chance.h"

struct world *world;
label world_tenants[WORLD_NAMES], world_providers[WORLD_NAMES], world_models[WORLD_NAMES],
    world_keys[WORLD_KEYS];

/* ---- in place of the machine ---- */

struct mono mono_now(void);
struct wall wall_now(void);
void random_bytes(void *dst, size_t n);
int __wrap_posix_fallocate(int fd, off_t offset, off_t len);
int __wrap_posix_fallocate64(int fd, off_t offset, off_t len);
int __real_posix_fallocate(int fd, off_t offset, off_t len);

struct mono mono_now(void)
{
    return world->mono;
}
struct wall wall_now(void)
{
    return world->wall;
}

void random_bytes(void *dst, size_t n)
{
    chance_bytes(&world->random, dst, n);
}

/* The journal's disk. It is full while the world says so. */
int __wrap_posix_fallocate(int fd, off_t offset, off_t len)
{
    return world->disk_is_full ? ENOSPC : __real_posix_fallocate(fd, offset, len);
}

int __wrap_posix_fallocate64(int fd, off_t offset, off_t len) /* what it is called with large files */
{
    return __wrap_posix_fallocate(fd, offset, len);
}

/* ---- chance ---- */

uint64_t world_random(void)
{
    return chance_next(&world->random);
}

unsigned world_below(unsigned n)
{
    return chance_below(&world->random, n);
}

unsigned world_between(unsigned from, unsigned to)
{
    return chance_between(&world->random, from, to);
}

bool world_strikes(unsigned one_in)
{
    return one_in && !world->is_calm && world_below(one_in) == 0;
}

void world_advance(int64_t us)
{
    world->mono.us += us;
    world->wall.us += us;
}

/* ---- trace ---- */

void world_trace(const char *fmt, ...)
{
    char line[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    trace_mix(&world->trace, line);
    world->events++;
    if (world->is_verbose)
        (void)!dprintf(STDOUT_FILENO, "%u %11.6f %s\n", world->life, (double)world->mono.us / 1e6, line);
}

static void blame(const char *fmt, va_list ap)
{
    if (world->failure[0] == '\0')
        (void)vsnprintf(world->failure, sizeof(world->failure), fmt, ap);
}

void world_blame(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    blame(fmt, ap);
    va_end(ap);
}

void world_fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    blame(fmt, ap);
    va_end(ap);
    world_trace("failed: %s", world->failure);
    _exit(LIFE_FAILED);
}

/* ---- seeds ---- */

/* Long ones, so that records are large and segments are full after a hundred of them. */
static void name_all(label *out, unsigned n, const char *prefix, int width)
{
    char name[128];

    for (unsigned i = 0; i < n; i++) {
        (void)snprintf(name, sizeof(name), "%s%0*u", prefix, width, i);
        out[i] = intern_z(name);
    }
}

void world_new(void)
{
    void *p = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        abort();
    world = p;
    name_all(world_tenants, WORLD_NAMES, "tenant", 50);
    name_all(world_providers, WORLD_NAMES, "provider", 100);
    name_all(world_models, WORLD_NAMES, "vendor/model-", 100);
    name_all(world_keys, WORLD_KEYS, "key", 50);
}

static unsigned rare(unsigned one_in)
{
    return chance_rare(&world->random, one_in);
}

static void make_plan(struct plan *p)
{
    *p = (struct plan){.lives = world_between(2, 6),
                       .steps = world_below(10) ? world_between(20, 260) : world_between(600, 2000)};
    p->has_own_keys = world_below(2);
    p->is_memory_store = world_below(4) == 0;
    p->journal_bytes = world_below(3) ? 64u * JOURNAL_SEGMENT : world_between(1, 6) * JOURNAL_SEGMENT;
    p->crash_at_point = rare(150);
    p->crash_between = rare(150);
    p->orderly_stop = rare(2);
    p->kv_fails_before = rare(8);
    p->kv_reply_lost = rare(8);
    p->kv_late = rare(12);
    p->kv_emptied = rare(40);
    p->kv_goes_down = rare(30);
    p->db_fails_before = rare(60);
    p->db_fails_after = rare(60);
    p->db_goes_down = rare(150);
    p->disk_full = rare(40);
    p->clock_steps = rare(40);
    p->slow_tend = rare(3);
    p->weight_admit = world_between(1, 12);
    p->weight_advance = world_between(4, 30);
    p->weight_writers = world_between(1, 12);
    p->attempts_max = world_between(1, 4);
    p->has_limits = world_below(2);
    p->is_closed = world_below(3) == 0;
    p->slow_arrival = rare(6);
    p->down_long = world_below(6) ? 40 : 3000;
}

/* Half of all seeds begin minutes before the end of some window. */
static struct wall first_moment(void)
{
    struct wall t = {(int64_t)1795269000 * 1000000 + world_below(3600) * (int64_t)1000000};
    enum period p = (enum period)world_between(PERIOD_HOUR, PERIOD_COUNT - 1);

    return world_below(2) ? t : (struct wall){period_end(p, t).us - world_below(400) * (int64_t)1000000};
}

/* Not all of it is zeroed: promises and records count only up to their number. */
void world_begin(uint64_t seed, const char *base_dir)
{
    bool is_verbose = world->is_verbose;
    enum mutant mutant = world->mutant;

    memset(world, 0, offsetof(struct world, requests));
    world->is_verbose = is_verbose;
    world->mutant = mutant;
    world->seed = seed;
    world->random = seed * 0x2545f4914f6cdd1du + 1;
    world->trace = TRACE_BEGINS;
    world->mono.us = 1000000;
    world->wall = first_moment();
    make_plan(&world->plan);
    (void)snprintf(world->dir, sizeof(world->dir), "%s/seed-%llu", base_dir, (unsigned long long)seed);
}
