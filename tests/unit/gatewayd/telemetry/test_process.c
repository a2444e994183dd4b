/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/telemetry/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libshared/base/compiler.h"
#include "tests/unit/cm.h"

/* A small /proc and /sys of our own. */
static char root[64];
static char made[64][512]; /* to remove again, newest first */
static size_t n_made;

static void remember(const char *path)
{
    assert_true(n_made < ARRAY_LEN(made));
    (void)snprintf(made[n_made++], sizeof(made[0]), "%s", path);
}

static void put(const char *path, const char *text)
{
    char full[512];
    FILE *f;

    (void)snprintf(full, sizeof(full), "%s%s", root, path);
    for (char *p = strchr(full + strlen(root) + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        if (mkdir(full, 0700) == 0)
            remember(full);
        *p = '/';
    }
    f = fopen(full, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    (void)fclose(f);
    remember(full);
}

static int make_root(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof(root), "/tmp/test_process.XXXXXX");
    assert_non_null(mkdtemp(root));
    put("/proc/meminfo", "MemTotal:        1000000 kB\nMemFree:          400000 kB\n");
    put("/proc/self/statm", "5000 1234 800 10 0 900 0\n");
    return 0;
}

static int remove_root(void **state)
{
    (void)state;
    while (n_made)
        (void)remove(made[--n_made]);
    return rmdir(root);
}

static void test_the_least_limit_on_the_way_up_counts(void **state)
{
    struct process_stats st;

    (void)state;
    put("/proc/self/cgroup", "0::/outer/inner\n");
    put("/sys/fs/cgroup/outer/inner/memory.max", "max\n");
    put("/sys/fs/cgroup/outer/inner/cpu.max", "800000 100000\n");
    put("/sys/fs/cgroup/outer/memory.max", "268435456\n");
    put("/sys/fs/cgroup/outer/cpu.max", "50000 100000\n");
    process_read(root, &st);
    assert_int_equal(st.memory_limit_bytes, 268435456);
    assert_true(st.cpu_cores == 0.5);
    assert_int_equal(st.resident_bytes, 1234 * sysconf(_SC_PAGESIZE));
}

static void test_without_a_limit_the_machine_is_the_limit(void **state)
{
    struct process_stats st;

    (void)state;
    put("/proc/self/cgroup", "0::/\n");
    put("/sys/fs/cgroup/memory.max", "max\n");
    put("/sys/fs/cgroup/cpu.max", "max 100000\n");
    process_read(root, &st);
    assert_int_equal(st.memory_limit_bytes, 1000000 * 1024);
    assert_true(st.cpu_cores >= 1);
}

static void test_a_path_out_of_the_mount_means_its_root(void **state)
{
    struct process_stats st;

    (void)state;
    put("/proc/self/cgroup", "0::/../../system.slice\n");
    put("/sys/fs/cgroup/memory.max", "134217728\n");
    process_read(root, &st);
    assert_int_equal(st.memory_limit_bytes, 134217728);
}

static void test_version_one_is_understood(void **state)
{
    struct process_stats st;

    (void)state;
    put("/proc/self/cgroup",
        "12:cpu,cpuacct:/docker/abc\n9:memory:/docker/abc\n1:name=systemd:/docker/abc\n");
    put("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "536870912\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us", "25000\n");
    put("/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    process_read(root, &st);
    assert_int_equal(st.memory_limit_bytes, 536870912);
    assert_true(st.cpu_cores == 0.25);
}

static void test_nothing_readable_is_no_disaster(void **state)
{
    struct process_stats st;

    (void)state;
    process_read("/nonexistent", &st);
    assert_int_equal(st.resident_bytes, 0);
    assert_int_equal(st.memory_limit_bytes, 0);
    assert_true(st.cpu_cores >= 1);
}

static void test_an_open_file_counts_and_a_closed_one_does_not(void **state)
{
    struct process_stats before, with, after;
    int fd;

    (void)state;
    process_read("", &before);
    fd = open("/dev/null", O_RDONLY);
    process_read("", &with);
    (void)close(fd);
    process_read("", &after);
    assert_int_equal(with.open_fds, before.open_fds + 1);
    assert_int_equal(after.open_fds, before.open_fds);
    assert_true(before.open_fds >= 3 && before.max_fds > before.open_fds);
    assert_true(before.resident_bytes > 100000 && after.cpu_us >= before.cpu_us);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_least_limit_on_the_way_up_counts, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_without_a_limit_the_machine_is_the_limit, make_root,
                                        remove_root),
        cmocka_unit_test_setup_teardown(test_a_path_out_of_the_mount_means_its_root, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_version_one_is_understood, make_root, remove_root),
        cmocka_unit_test(test_nothing_readable_is_no_disaster),
        cmocka_unit_test(test_an_open_file_counts_and_a_closed_one_does_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
