/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a dozen small files per scrape, on the api thread. A limit holds for a cgroup and everything below
 * it, so the least one on the way up counts. Both cgroup versions are understood; inside a container the path
 * in /proc/self/cgroup may lead out of what is mounted, then the mount's root is all there is. */
#include "gatewayd/telemetry/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "libshared/base/span.h"

#define PATH_CAP 1024

/* The whole small file as text; false when it is not there. */
static bool slurp(const char *path, char *dst, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n = 0;

    if (fd < 0)
        return false;
    while (len < cap - 1 && (n = read(fd, dst + len, cap - 1 - len)) > 0)
        len += (size_t)n;
    (void)close(fd);
    dst[len] = '\0';
    return n >= 0;
}

static bool slurp_at(char *dst, size_t cap, const char *root, const char *dir, const char *rest,
                     const char *file)
{
    char path[PATH_CAP];
    int n = snprintf(path, sizeof(path), "%s%s%s/%s", root, dir, rest, file);

    return n > 0 && (size_t)n < sizeof(path) && slurp(path, dst, cap);
}

static uint64_t count_fds(const char *root)
{
    char path[PATH_CAP];
    uint64_t n = 0;
    DIR *d;

    (void)snprintf(path, sizeof(path), "%s/proc/self/fd", root);
    d = opendir(path);
    if (!d)
        return 0;
    for (const struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    (void)closedir(d);
    return n && !*root ? n - 1 : n; /* not the one that counted */
}

/* Path of the cgroup for `controller` ("" in version 2) as /proc/self/cgroup has it. */
static bool cgroup_path(struct span text, const char *controller, char *dst, size_t cap)
{
    while (text.len) {
        struct span line = span_split(&text, '\n');
        struct span controllers;

        (void)span_split(&line, ':');
        controllers = span_split(&line, ':');
        if (!*controller && controllers.len == 0 && line.p) {
            (void)span_copy(dst, cap, line);
            return true;
        }
        while (*controller && controllers.len) {
            if (span_is(span_split(&controllers, ','), controller)) {
                (void)span_copy(dst, cap, line);
                return true;
            }
        }
    }
    return false;
}

typedef void (*limit_fn)(const char *root, const char *mount, const char *path, struct process_stats *out);

/* Calls `fn` for the cgroup and all above it, up to the root of the mount. */
static void walk_up(const char *root, const char *mount, char *path, limit_fn fn, struct process_stats *out)
{
    if (strstr(path, "/.."))
        *path = '\0';
    for (;;) {
        char *slash = strrchr(path, '/');

        if (slash && !slash[1]) {
            *slash = '\0';
            continue;
        }
        fn(root, mount, path, out);
        if (!slash)
            return;
        *slash = '\0';
    }
}

static void least(uint64_t *into, uint64_t v)
{
    if (v && (!*into || v < *into))
        *into = v;
}

static void least_cores(struct process_stats *out, double quota, double period)
{
    if (quota > 0 && period > 0 && (out->cpu_cores <= 0 || quota / period < out->cpu_cores))
        out->cpu_cores = quota / period;
}

static void limits_v2(const char *root, const char *mount, const char *path, struct process_stats *out)
{
    char text[128];
    char *end;

    if (slurp_at(text, sizeof(text), root, mount, path, "memory.max") && text[0] != 'm')
        least(&out->memory_limit_bytes, strtoull(text, NULL, 10));
    if (slurp_at(text, sizeof(text), root, mount, path, "cpu.max") && text[0] != 'm') {
        double quota = strtod(text, &end);

        least_cores(out, quota, strtod(end, NULL));
    }
}

static void memory_v1(const char *root, const char *mount, const char *path, struct process_stats *out)
{
    char text[128];

    if (slurp_at(text, sizeof(text), root, mount, path, "memory.limit_in_bytes"))
        least(&out->memory_limit_bytes, strtoull(text, NULL, 10));
}

static void cpu_v1(const char *root, const char *mount, const char *path, struct process_stats *out)
{
    char quota[64], period[64];

    if (slurp_at(quota, sizeof(quota), root, mount, path, "cpu.cfs_quota_us") &&
        slurp_at(period, sizeof(period), root, mount, path, "cpu.cfs_period_us"))
        least_cores(out, strtod(quota, NULL), strtod(period, NULL));
}

static void read_cgroups(const char *root, struct process_stats *out)
{
    static const struct {
        const char *controller, *mount;
        limit_fn fn;
    } SOURCES[] = {
        {"", "/sys/fs/cgroup", limits_v2},
        {"memory", "/sys/fs/cgroup/memory", memory_v1},
        {"cpu", "/sys/fs/cgroup/cpu", cpu_v1},
    };
    char text[4096], path[512];

    if (!slurp_at(text, sizeof(text), root, "/proc/self", "", "cgroup"))
        return;
    for (size_t i = 0; i < sizeof(SOURCES) / sizeof(SOURCES[0]); i++)
        if (cgroup_path(span_of(text), SOURCES[i].controller, path, sizeof(path)))
            walk_up(root, SOURCES[i].mount, path, SOURCES[i].fn, out);
}

static uint64_t memory_total(const char *root)
{
    char text[4096];
    const char *at;

    if (!slurp_at(text, sizeof(text), root, "/proc", "", "meminfo"))
        return 0;
    at = strstr(text, "MemTotal:");
    return at ? strtoull(at + strlen("MemTotal:"), NULL, 10) * 1024 : 0;
}

static double usable_cpus(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        return CPU_COUNT(&set);
    return (double)sysconf(_SC_NPROCESSORS_ONLN);
}

void process_read(const char *root, struct process_stats *out)
{
    struct rusage ru = {0};
    struct rlimit rl = {0};
    char text[256];
    const char *resident;

    *out = (struct process_stats){0};
    (void)getrusage(RUSAGE_SELF, &ru);
    out->cpu_us = (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000 +
                  (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
    if (slurp_at(text, sizeof(text), root, "/proc/self", "", "statm") && (resident = strchr(text, ' ')))
        out->resident_bytes = strtoull(resident, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
    out->open_fds = count_fds(root);
    if (getrlimit(RLIMIT_NOFILE, &rl) == 0)
        out->max_fds = rl.rlim_cur;
    read_cgroups(root, out);
    least(&out->memory_limit_bytes, memory_total(root));
    least_cores(out, usable_cpus(), 1);
}
