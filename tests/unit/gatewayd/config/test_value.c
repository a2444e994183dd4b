/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/config/value.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "tests/unit/cm.h"

static void test_durations_carry_their_unit(void **state)
{
    static const struct {
        const char *text;
        int64_t us; /* -1: refused */
    } CASES[] = {
        {"0", 0},
        {"0s", 0},
        {"1us", 1},
        {"500ms", 500000},
        {"1.5s", 1500000},
        {"30s", 30000000},
        {"5m", 300000000},
        {"2h", 7200000000},
        {"1d", 86400000000},
        {"1h30m", 5400000000},
        {"1m0.5s", 60500000},
        {"0.001ms", 1},
        {"", -1},
        {"5", -1},
        {"s", -1},
        {"-5s", -1},
        {"5 s", -1},
        {"5S", -1},
        {"5sec", -1},
        {"30m1h", -1},
        {"1s1s", -1},
        {"1.s", -1},
        {".5s", -1},
        {"0.5us", -1},
        {"1e3s", -1},
        {"99999999999999999999s", -1},
        {"9223372036854775807h", -1},
        {"106751991d", 9223372022400000000},
        {"106751992d", -1},
        {"0.1234567890s", -1},
        {"5ss", -1},
        {"00", -1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        int64_t us = -1;
        bool ok = value_duration(span_of(CASES[i].text), &us);

        if (ok != (CASES[i].us >= 0) || us != CASES[i].us)
            fail_msg("'%s' gave %lld", CASES[i].text, (long long)us);
    }
}

static void test_sizes_may_carry_a_unit(void **state)
{
    static const struct {
        const char *text;
        int64_t n;
    } CASES[] = {
        {"0", 0},          {"1024", 1024},
        {"64KiB", 65536},  {"32MiB", 33554432},
        {"1GiB", 1 << 30}, {"1.5KiB", 1536},
        {"1MB", 1000000},  {"2kB", 2000},
        {"7B", 7},         {"1TiB", (int64_t)1 << 40},
        {"", -1},          {"MiB", -1},
        {"1 MiB", -1},     {"1mib", -1},
        {"1M", -1},        {"0.3B", -1},
        {"-1", -1},        {"9999999TiB", -1},
        {"1MiB2", -1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        uint64_t n = 0;
        bool ok = value_size(span_of(CASES[i].text), &n);

        if (ok != (CASES[i].n >= 0) || (ok && n != (uint64_t)CASES[i].n))
            fail_msg("'%s' gave %llu", CASES[i].text, (unsigned long long)n);
    }
}

static void test_decimals_are_exact(void **state)
{
    int64_t v = 0;

    (void)state;
    assert_true(value_decimal(SPAN_LIT("0.1"), 9, &v));
    assert_int_equal(v, 100000000);
    assert_true(value_decimal(SPAN_LIT("9223372036.854775807"), 9, &v));
    assert_true(v == INT64_MAX);
    assert_false(value_decimal(SPAN_LIT("9223372036.854775808"), 9, &v));
    assert_false(value_decimal(SPAN_LIT("0.0000000001"), 9, &v));
    assert_false(value_decimal(SPAN_LIT("1."), 9, &v));
    assert_false(value_decimal(SPAN_LIT("+1"), 9, &v));
    assert_false(value_decimal(SPAN_LIT(""), 9, &v));
}

static void test_booleans_have_eight_words(void **state)
{
    bool b = false;

    (void)state;
    assert_true(value_bool(SPAN_LIT("True"), &b) && b);
    assert_true(value_bool(SPAN_LIT("OFF"), &b) && !b);
    assert_true(value_bool(SPAN_LIT("1"), &b) && b);
    assert_true(value_bool(SPAN_LIT("no"), &b) && !b);
    assert_false(value_bool(SPAN_LIT("2"), &b));
    assert_false(value_bool(SPAN_LIT(""), &b));
    assert_false(value_bool(SPAN_LIT("y"), &b));
}

static void test_addresses_have_a_host_and_a_port(void **state)
{
    static const struct {
        const char *text, *host; /* host NULL: refused */
        unsigned port;
    } CASES[] = {
        {"127.0.0.1:8080", "127.0.0.1", 8080},
        {"[::1]:0", "::1", 0},
        {"[fe80::1:2]:65535", "fe80::1:2", 65535},
        {":8080", "0.0.0.0", 8080},
        {"*:1", "0.0.0.0", 1},
        {"localhost:80", "localhost", 80},
        {"a-b.example.org.:80", "a-b.example.org.", 80},
        {"", "", 0},
        {"8080", NULL, 0},
        {"::1:80", NULL, 0},
        {"[::1]", NULL, 0},
        {"[::1]80", NULL, 0},
        {"[1.2.3.4]:80", NULL, 0},
        {"[]:80", NULL, 0},
        {"1.2.3:80", NULL, 0},
        {"a..b:80", NULL, 0},
        {"-a:80", NULL, 0},
        {"a-:80", NULL, 0},
        {"a b:80", NULL, 0},
        {"a:65536", NULL, 0},
        {"a:", NULL, 0},
        {"a:-1", NULL, 0},
        {"a:80 ", NULL, 0},
        {"http://a:80", NULL, 0},
    };
    struct arena a = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct config_address out = {"unset", 7};
        const char *why = value_address(&a, span_of(CASES[i].text), &out);

        if (!why != !!CASES[i].host ||
            (!why && (strcmp(out.host, CASES[i].host) != 0 || out.port != CASES[i].port)))
            fail_msg("'%s' gave %s, '%s' %u", CASES[i].text, why ? why : "ok", out.host, out.port);
    }
    arena_release(&a);
}

static void test_networks_are_kept_as_ipv6(void **state)
{
    static const struct {
        const char *text;
        int prefix; /* -1: refused */
    } CASES[] = {
        {"10.0.0.0/8", 104},
        {"0.0.0.0/0", 96},
        {"192.0.2.7", 128},
        {"::/0", 0},
        {"::1", 128},
        {"2001:db8::/32", 32},
        {"10.0.0.1/8", -1},
        {"2001:db8::1/32", -1},
        {"10.0.0.0/", -1},
        {"10.0.0.0/33", -1},
        {"::/129", -1},
        {"10.0.0.0/8/8", -1},
        {"10.0.0", -1},
        {"", -1},
        {"/8", -1},
        {"10.0.0.0/-1", -1},
        {"10.0.0.0/0008", -1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct config_cidr c = {.prefix = 999};
        const char *why = value_cidr(span_of(CASES[i].text), &c);

        if (!why != (CASES[i].prefix >= 0) || (!why && c.prefix != (unsigned)CASES[i].prefix))
            fail_msg("'%s' gave %s /%u", CASES[i].text, why ? why : "ok", c.prefix);
    }
}

static void test_a_client_is_matched_against_networks_of_both_families(void **state)
{
    struct config_cidr list[3];
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    struct sockaddr other = {.sa_family = AF_UNIX};
    static const struct {
        const char *text;
        bool is_in;
    } CASES[] = {
        {"10.200.0.1", true},        {"11.0.0.1", false},    {"::ffff:10.1.1.1", true},
        {"192.168.3.255", true},     {"192.168.4.0", false}, {"2001:db8:7fff::1", true},
        {"2001:db8:8000::1", false}, {"::1", false},
    };

    (void)state;
    assert_null(value_cidr(SPAN_LIT("10.0.0.0/8"), &list[0]));
    assert_null(value_cidr(SPAN_LIT("192.168.0.0/22"), &list[1]));
    assert_null(value_cidr(SPAN_LIT("2001:db8::/33"), &list[2]));
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        bool is_v4 = inet_pton(AF_INET, CASES[i].text, &in.sin_addr) == 1;

        if (!is_v4)
            assert_int_equal(inet_pton(AF_INET6, CASES[i].text, &in6.sin6_addr), 1);
        if (config_cidr_match(list, 3, is_v4 ? (void *)&in : (void *)&in6) != CASES[i].is_in)
            fail_msg("%s", CASES[i].text);
    }
    assert_false(config_cidr_match(list, 3, &other));
    assert_false(config_cidr_match(list, 3, NULL));
    assert_false(config_cidr_match(NULL, 0, &in));
    assert_null(value_cidr(SPAN_LIT("0.0.0.0/0"), &list[0]));
    assert_true(config_cidr_match(list, 1, &in));
    assert_false(config_cidr_match(list, 1, &in6));
}

static void test_a_base_url_loses_its_trailing_slashes(void **state)
{
    size_t len = 0;

    (void)state;
    assert_null(value_base_url(SPAN_LIT("https://[2001:db8::1]:8443/v1//"), &len));
    assert_int_equal(len, strlen("https://[2001:db8::1]:8443/v1"));
    assert_null(value_base_url(SPAN_LIT("http://host"), &len));
    assert_int_equal(len, 11);
    assert_non_null(value_base_url(SPAN_LIT("HTTP://host"), &len));
    assert_non_null(value_base_url(SPAN_LIT("http://"), &len));
    assert_non_null(value_base_url(SPAN_LIT("http:///"), &len));
    assert_non_null(value_base_url(SPAN_LIT("http://[::1]x/"), &len));
    assert_non_null(value_base_url(SPAN_LIT("http://[]/"), &len));
    assert_non_null(value_base_url(SPAN_LIT("http://:80/"), &len));
    assert_non_null(value_base_url(SPAN_LIT("http://h:/"), &len));
    assert_non_null(value_base_url(SPAN_LIT("http://h/.."), &len));
    assert_non_null(value_base_url(SPAN_LIT("http://h/./x"), &len));
    assert_non_null(value_base_url(SPAN_LIT("http://h\x7f/"), &len));
    assert_non_null(value_base_url(SPAN_LIT("http://h\0x/"), &len));
}

static void test_names_are_fit_for_labels_and_paths(void **state)
{
    (void)state;
    assert_true(value_is_name(SPAN_LIT("a")));
    assert_true(value_is_name(SPAN_LIT("0-A_b.c")));
    assert_false(value_is_name(SPAN_LIT("")));
    assert_false(value_is_name(SPAN_LIT("_a")));
    assert_false(value_is_name(SPAN_LIT("a/b")));
    assert_false(value_is_name(SPAN_LIT("a b")));
    assert_false(value_is_name(SPAN_LIT("\xc3\xa4")));
    assert_false(
        value_is_name(SPAN_LIT("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")));
}

static void test_printable_text_has_no_control_characters(void **state)
{
    (void)state;
    assert_true(value_is_printable(SPAN_LIT("")));
    assert_true(value_is_printable(SPAN_LIT("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80")));
    assert_false(value_is_printable(SPAN_LIT("a\n")));
    assert_false(value_is_printable(SPAN_LIT("a\x7f")));
    assert_false(value_is_printable(SPAN_LIT("\xc2\x9b")));
    assert_false(value_is_printable(SPAN_LIT("\xff")));
    assert_false(value_is_printable(SPAN_LIT("\xc3")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations_carry_their_unit),
        cmocka_unit_test(test_sizes_may_carry_a_unit),
        cmocka_unit_test(test_decimals_are_exact),
        cmocka_unit_test(test_booleans_have_eight_words),
        cmocka_unit_test(test_addresses_have_a_host_and_a_port),
        cmocka_unit_test(test_networks_are_kept_as_ipv6),
        cmocka_unit_test(test_a_client_is_matched_against_networks_of_both_families),
        cmocka_unit_test(test_a_base_url_loses_its_trailing_slashes),
        cmocka_unit_test(test_names_are_fit_for_labels_and_paths),
        cmocka_unit_test(test_printable_text_has_no_control_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
