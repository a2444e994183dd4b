/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/http/listen.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/cm.h"

static char dir[64], path[128];

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/test-listen-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(path, sizeof(path), "%s/admin.sock", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(dir);
}

static void test_a_socket_that_is_left_over_is_replaced(void **state)
{
    struct err err = {0};
    int fd = listen_unix(path, &err);

    (void)state;
    assert_true(fd >= 0);
    (void)close(fd);
    fd = listen_unix(path, &err);
    assert_true(fd >= 0);
    (void)close(fd);
}

static void test_a_socket_that_answers_is_not_taken_from_its_owner(void **state)
{
    struct err err = {0};
    struct stat before, after;
    int fd = listen_unix(path, &err);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(listen_unix(path, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    (void)close(fd);
}

static void test_a_file_in_the_way_is_left_alone(void **state)
{
    struct err err = {0};
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    (void)state;
    (void)close(fd);
    assert_int_equal(listen_unix(path, &err), -1);
    assert_non_null(strstr(err_text(&err), "no socket"));
    assert_int_equal(access(path, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_socket_that_is_left_over_is_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_socket_that_answers_is_not_taken_from_its_owner, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_file_in_the_way_is_left_alone, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
