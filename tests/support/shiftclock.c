/* SPDX-License-Identifier: Apache-2.0 */
/* The wall clock of a program under test, for LD_PRELOAD: what it is told lies in a file of two int64 that a test rewrites
 * while the program runs (tests/support/shiftclock.py). The first is added to the kernel's clock, in nanoseconds; when the
 * second is not 0, the clock stands still at that many nanoseconds since 1970, so that an instant can be met exactly.
 *
 * Any thread. Only CLOCK_REALTIME, gettimeofday() and time() are moved: what measures goes by CLOCK_MONOTONIC, and deadlines that
 * the kernel keeps by the wall clock (sem_timedwait) are off by the offset. Without SHIFTCLOCK_FILE nothing is moved. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS INT64_C(1000000000)

struct told {
    _Atomic int64_t offset_ns, still_ns;
};

static struct told nothing, *told = &nothing;

__attribute__((constructor)) static void look(void)
{
    const char *path = getenv("SHIFTCLOCK_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *at;

    if (fd < 0)
        return;
    at = mmap(NULL, sizeof(*told), PROT_READ, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (at != MAP_FAILED)
        told = at;
}

/* The library's own is below this one; its name is not asked for, since dlsym() may allocate. */
static int kernel_clock(clockid_t id, struct timespec *out)
{
    return (int)syscall(SYS_clock_gettime, id, out);
}

int clock_gettime(clockid_t id, struct timespec *out)
{
    int64_t ns = told->still_ns;

    if (kernel_clock(id, out) != 0)
        return -1;
    if (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)
        return 0;
    if (!ns)
        ns = out->tv_sec * SECOND_NS + out->tv_nsec + told->offset_ns;
    out->tv_sec = ns / SECOND_NS;
    out->tv_nsec = ns % SECOND_NS;
    return 0;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec ts;

    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &ts) != 0)
        return -1;
    *out = (struct timeval){ts.tv_sec, ts.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *out)
{
    struct timespec ts = {0};

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    if (out)
        *out = ts.tv_sec;
    return ts.tv_sec;
}
