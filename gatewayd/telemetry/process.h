/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says about this process and the limits that it runs under. */
#ifndef TELEMETRY_PROCESS_H
#define TELEMETRY_PROCESS_H

#include <stdint.h>

struct process_stats { /* 0 where it cannot be found out */
    uint64_t cpu_us;
    uint64_t resident_bytes;
    uint64_t open_fds, max_fds;
    uint64_t memory_limit_bytes; /* the least of the cgroup limits and the machine's memory */
    double cpu_cores;            /* the least of the cgroup quotas and the CPUs that may be used */
};

/* `root` is put in front of /proc and /sys; "" but in tests. */
void process_read(const char *root, struct process_stats *out);

#endif
