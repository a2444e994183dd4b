/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/http/address.h"

#include "libshared/base/compiler.h"
#include "tests/unit/cm.h"

static const char *const CLOSED[] = {
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "169.254.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:10.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "ff02::1",
};

static const char *const OPEN[] = {
    "1.1.1.1",         "8.8.8.8",         "9.255.255.255",   "11.0.0.0",         "100.63.255.255",
    "100.128.0.0",     "126.255.255.255", "128.0.0.1",       "169.253.255.255",  "169.255.0.0",
    "172.15.255.255",  "172.32.0.0",      "192.167.255.255", "192.169.0.0",      "198.17.255.255",
    "198.20.0.0",      "223.255.255.255", "::ffff:8.8.8.8",  "64:ff9b::8.8.8.8", "2002:808:808::1",
    "2606:4700::1111", "2a00::1",
};

static void test_addresses_inside_are_told_from_those_outside(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CLOSED) + ARRAY_LEN(OPEN); i++) {
        bool is_open = i >= ARRAY_LEN(CLOSED);
        const char *text = is_open ? OPEN[i - ARRAY_LEN(CLOSED)] : CLOSED[i];
        struct address a;

        assert_true(address_parse(span_of(text), &a));
        if (address_is_public(&a) != is_open)
            print_error("%s\n", text);
        assert_int_equal(address_is_public(&a), is_open);
    }
}

static void test_only_plain_literals_are_addresses(void **state)
{
    static const char *const NOT[] = {"",         "localhost", "127.1", "0x7f.0.0.1",   "2130706433",
                                      "1.2.3.4.", "1.2.3.256", "[::1",  "fe80::1%eth0", "::1]",
                                      "1.2.3.4 ", "a.example"};
    struct address a;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(NOT); i++)
        assert_false(address_parse(span_of(NOT[i]), &a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses_inside_are_told_from_those_outside),
        cmocka_unit_test(test_only_plain_literals_are_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
