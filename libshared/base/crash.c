/* SPDX-License-Identifier: Apache-2.0 */
/* Any thread. The counts live in a shared mapping, so they are on record when the process is not any more. */
#include "libshared/base/crash.h"

#include "libshared/base/compiler.h"

const char *crash_point_name(enum crash_point p)
{
    static const char *const NAMES[] = {
#define POINT(name, text) #name,
#include "libshared/base/crash_points.def"
#undef POINT
    };
    _Static_assert(ARRAY_LEN(NAMES) == CRASH_COUNT, "every point has a name");

    return p < CRASH_COUNT ? NAMES[p] : "unknown";
}

#ifdef CRASH_POINTS

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void (*crash_hook)(enum crash_point p);

static _Atomic uint64_t *counts;
static _Atomic uint64_t own_counts[CRASH_COUNT];
static int wanted = -1;
static uint64_t wanted_nth = 1;

static void read_environment(void)
{
    const char *file = getenv("GATEWAYD_CRASH_COUNTS"), *want = getenv("GATEWAYD_CRASH");
    int fd = file ? open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    void *p = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, sizeof(own_counts)) == 0)
        p = mmap(NULL, sizeof(own_counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        (void)close(fd);
    counts = p == MAP_FAILED ? own_counts : p;
    for (int i = 0; want && i < CRASH_COUNT; i++) {
        const char *name = crash_point_name((enum crash_point)i);
        size_t len = strlen(name);

        if (strncmp(want, name, len) == 0 && (want[len] == '\0' || want[len] == ':')) {
            wanted = i;
            wanted_nth = want[len] ? strtoull(want + len + 1, NULL, 10) : 1;
        }
    }
}

void crash_point(enum crash_point p)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    uint64_t n;

    if (crash_hook) {
        crash_hook(p);
        return;
    }
    (void)pthread_once(&once, read_environment);
    n = atomic_fetch_add(&counts[p], 1) + 1;
    if ((int)p == wanted && n == wanted_nth)
        (void)kill(getpid(), SIGKILL);
}

#endif
