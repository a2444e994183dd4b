/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "libshared/base/hash.h"

#include "tests/unit/cm.h"

static void test_the_check_value_of_the_standard(void **state)
{
    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(crc32c_portable(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(crc32c(0, "", 0), 0);
}

static void test_instruction_and_table_agree_at_every_length_and_cut(void **state)
{
    unsigned char p[300];

    (void)state;
    srand(3);
    for (size_t i = 0; i < sizeof(p); i++)
        p[i] = (unsigned char)(rand() & 0xff);
    for (size_t n = 0; n < sizeof(p) - 8; n++) {
        uint32_t whole = crc32c(0, p + n % 8, n);

        assert_int_equal(whole, crc32c_portable(0, p + n % 8, n));
        assert_int_equal(whole, crc32c(crc32c(0, p + n % 8, n / 3), p + n % 8 + n / 3, n - n / 3));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_check_value_of_the_standard),
        cmocka_unit_test(test_instruction_and_table_agree_at_every_length_and_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
