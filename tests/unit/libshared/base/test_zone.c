/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/base/zone.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libshared/catalog/period.h"
#include "tests/unit/cm.h"

static const struct zone *zone(const char *name)
{
    const struct zone *z = NULL;
    struct err err = {0};

    if (zone_find_mt(span_of(name), &z, &err) != ERR_OK)
        fail_msg("%s", err.text);
    return z;
}

static int64_t at(int year, int month, int day, int hour, int minute) /* UTC */
{
    struct tm tm = {
        .tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = hour, .tm_min = minute};

    return timegm(&tm);
}

static void test_offsets_change_at_the_second(void **state)
{
    const struct zone *berlin = zone("Europe/Berlin"), *york = zone("America/New_York");

    (void)state;
    assert_int_equal(zone_offset(berlin, at(2026, 3, 29, 1, 0) - 1), 3600);
    assert_int_equal(zone_offset(berlin, at(2026, 3, 29, 1, 0)), 7200);
    assert_int_equal(zone_offset(berlin, at(2026, 10, 25, 1, 0) - 1), 7200);
    assert_int_equal(zone_offset(berlin, at(2026, 10, 25, 1, 0)), 3600);
    assert_int_equal(zone_offset(york, at(2026, 11, 1, 6, 0) - 1), -4 * 3600);
    assert_int_equal(zone_offset(york, at(2026, 11, 1, 6, 0)), -5 * 3600);
    assert_int_equal(zone_offset(zone("Asia/Kolkata"), at(2026, 7, 1, 0, 0)), 19800);
    assert_int_equal(zone_offset(NULL, 0), 0);
    assert_ptr_equal(zone("Europe/Berlin"), berlin);
    assert_null(zone("UTC"));
    assert_null(zone("Etc/UTC"));
    assert_ptr_equal(zone_of_label_mt(zone_label(york)), york);
    assert_string_equal(zone_name(NULL), "UTC");
}

/* Tables end in 2037 or, in files of the slim kind, long before; from there the rule in the footer goes on. */
static void test_the_rule_goes_on_behind_the_table(void **state)
{
    const struct zone *berlin = zone("Europe/Berlin"), *sydney = zone("Australia/Sydney"),
                      *dublin = zone("Europe/Dublin");

    (void)state;
    assert_int_equal(zone_offset(berlin, at(2071, 3, 29, 1, 0) - 1), 3600);
    assert_int_equal(zone_offset(berlin, at(2071, 3, 29, 1, 0)), 7200);
    assert_int_equal(zone_offset(sydney, at(2090, 1, 1, 0, 0)), 11 * 3600); /* summer over the new year */
    assert_int_equal(zone_offset(sydney, at(2090, 7, 1, 0, 0)), 10 * 3600);
    assert_int_equal(zone_offset(dublin, at(2090, 7, 1, 0, 0)), 3600); /* its winter time is the exception */
    assert_int_equal(zone_offset(dublin, at(2090, 1, 1, 0, 0)), 0);
    assert_int_equal(zone_next_change(berlin, at(2071, 3, 29, 1, 0) - 1), at(2071, 3, 29, 1, 0));
    assert_int_equal(zone_next_change(zone("Asia/Tokyo"), at(2026, 1, 1, 0, 0)), INT64_MAX);
}

static void test_local_times_that_exist_twice_or_never(void **state)
{
    const struct zone *berlin = zone("Europe/Berlin"), *cuba = zone("America/Havana");

    (void)state;
    assert_int_equal(zone_instant(berlin, at(2026, 10, 25, 2, 30)),
                     at(2026, 10, 25, 0, 30)); /* the first of two */
    assert_int_equal(zone_instant(berlin, at(2026, 3, 29, 2, 30)),
                     at(2026, 3, 29, 1, 0)); /* never: the jump */
    assert_int_equal(zone_instant(cuba, at(2026, 3, 8, 0, 0)),
                     at(2026, 3, 8, 5, 0)); /* midnight is skipped */
    assert_int_equal(zone_instant(NULL, 12345), 12345);
}

/* The footer of a slim file, put into a file without any transition. */
static struct zone *ruled(const char *footer)
{
    char file[512];
    size_t n = 0;
    struct zone *z;
    struct err err = {0};

    for (int i = 0; i < 2; i++) {
        memset(file + n, 0, 50);
        memcpy(file + n, "TZif2", 5);
        file[n + 39] = 1; /* one type */
        n += 44 + 6;
    }
    n += (size_t)snprintf(file + n, sizeof(file) - n, "\n%s\n", footer);
    z = zone_read(SPAN_LIT("x/y"), span_make(file, n), &err);
    return z;
}

static void test_rules_of_every_form_are_read(void **state)
{
    static const struct {
        const char *footer;
        int64_t winter, summer;
    } CASES[] = {
        {"CET-1CEST,M3.5.0,M10.5.0/3", 3600, 7200},
        {"<+0330>-3:30<+0430>,J79/24,J263/24", 12600, 16200},
        {"IST-1GMT0,M10.5.0,M3.5.0/1", 0, 3600},
        {"<-02>2<-01>,M3.5.0/-1,M10.5.0/0", -7200, -3600},
        {"EST5EDT,59,300/2:30:15", -18000, -14400},
        {"JST-9", 32400, 32400},
        {"", 0, 0},
    };
    static const char *const BAD[] = {"C-1",
                                      "CET",
                                      "CET-1CEST",
                                      "CET-1CEST,M13.1.0,M1.1.0",
                                      "CET-25",
                                      "CET-1CEST,M3.5.0",
                                      "CET-1CEST,M3.5.0,M10.5.0x",
                                      "<abc",
                                      "CET-1CEST,J0,J3"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct zone *z = ruled(CASES[i].footer);

        assert_non_null(z);
        assert_int_equal(zone_offset(z, at(2030, 1, 15, 0, 0)), CASES[i].winter);
        assert_int_equal(zone_offset(z, at(2030, 7, 15, 0, 0)), CASES[i].summer);
        zone_free(z);
    }
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++)
        assert_null(ruled(BAD[i]));
}

static void test_files_that_make_no_sense_are_refused(void **state)
{
    const struct zone *z;
    struct err err = {0};
    char file[2048];
    size_t n;
    FILE *f = fopen("/usr/share/zoneinfo/Europe/Berlin", "rb");

    (void)state;
    assert_int_equal(zone_find_mt(SPAN_LIT("../../etc/passwd"), &z, &err), ERR_CONFIG);
    assert_int_equal(zone_find_mt(SPAN_LIT("/etc/passwd"), &z, &err), ERR_CONFIG);
    assert_int_equal(zone_find_mt(SPAN_LIT("Mars/Olympus"), &z, &err), ERR_CONFIG);
    assert_non_null(strstr(err.text, "Mars/Olympus"));
    assert_int_equal(zone_find_mt(SPAN_LIT("Europe"), &z, &err), ERR_CONFIG);
    assert_non_null(f);
    n = fread(file, 1, sizeof(file), f);
    (void)fclose(f);
    for (size_t len = 0; len < n; len += len < 100 ? 1 : 37) /* cut anywhere */
        assert_null(zone_read(SPAN_LIT("x"), span_make(file, len), &err));
    for (size_t i = 0; i < n; i++) { /* any byte wrong: refused or understood, never read beyond */
        char was = file[i];

        file[i] = (char)0xff;
        zone_free(zone_read(SPAN_LIT("x"), span_make(file, n), &err));
        file[i] = was;
    }
}

/* ---- windows --------------------------------------------------------------------------------------------------------- */

static const char *name(enum period p, const struct zone *z, int64_t s)
{
    static char text[PERIOD_WINDOW_CAP];

    (void)cycle_name((struct cycle){p, z}, (struct wall){s * 1000000}, text);
    return text;
}

static void expect(enum period p, const char *where, int64_t s, const char *text, int64_t start, int64_t end)
{
    struct window_span w = cycle_window((struct cycle){p, zone(where)}, (struct wall){s * 1000000});

    assert_string_equal(name(p, zone(where), s), text);
    assert_int_equal(w.start_us / 1000000, start);
    assert_int_equal(w.end_us / 1000000, end);
}

static void test_days_of_23_and_25_hours(void **state)
{
    (void)state;
    expect(PERIOD_DAY, "Europe/Berlin", at(2026, 3, 29, 12, 0), "2026-03-29", at(2026, 3, 28, 23, 0),
           at(2026, 3, 29, 22, 0));
    expect(PERIOD_DAY, "Europe/Berlin", at(2026, 10, 25, 12, 0), "2026-10-25", at(2026, 10, 24, 22, 0),
           at(2026, 10, 25, 23, 0));
    expect(PERIOD_DAY, "America/Havana", at(2026, 3, 8, 5, 0), "2026-03-08", at(2026, 3, 8, 5, 0),
           at(2026, 3, 9, 4, 0));
    expect(PERIOD_DAY, "America/Havana", at(2026, 3, 8, 5, 0) - 1, "2026-03-07", at(2026, 3, 7, 5, 0),
           at(2026, 3, 8, 5, 0));
    /* Until 2011 clocks of St. John's went back a minute after midnight: the day that had begun goes on. */
    expect(PERIOD_DAY, "America/St_Johns", at(2010, 11, 7, 2, 30), "2010-11-07", at(2010, 11, 7, 2, 30),
           at(2010, 11, 8, 3, 30));
    expect(PERIOD_DAY, "America/St_Johns", at(2010, 11, 7, 3, 0), "2010-11-07", at(2010, 11, 7, 2, 30),
           at(2010, 11, 8, 3, 30));
    /* Samoa had no 30 December 2011. */
    expect(PERIOD_DAY, "Pacific/Apia", at(2011, 12, 30, 10, 0), "2011-12-31", at(2011, 12, 30, 10, 0),
           at(2011, 12, 31, 10, 0));
}

static void test_weeks_months_and_hours_by_local_clocks(void **state)
{
    (void)state;
    expect(PERIOD_MONTH, "Asia/Kolkata", at(2026, 10, 31, 18, 30), "2026-11", at(2026, 10, 31, 18, 30),
           at(2026, 11, 30, 18, 30));
    expect(PERIOD_MONTH, "Asia/Kolkata", at(2026, 10, 31, 18, 30) - 1, "2026-10", at(2026, 9, 30, 18, 30),
           at(2026, 10, 31, 18, 30));
    expect(PERIOD_MONTH, "America/New_York", at(2026, 11, 15, 0, 0), "2026-11", at(2026, 11, 1, 4, 0),
           at(2026, 12, 1, 5, 0));
    expect(PERIOD_WEEK, "America/New_York", at(2026, 11, 2, 4, 59), "2026-W44", at(2026, 10, 26, 4, 0),
           at(2026, 11, 2, 5, 0));
    expect(PERIOD_HOUR, "Asia/Kathmandu", at(2026, 11, 20, 13, 20), "2026-11-20T13:15",
           at(2026, 11, 20, 13, 15), at(2026, 11, 20, 14, 15));
    expect(PERIOD_HOUR, "Europe/Berlin", at(2026, 10, 25, 1, 10), "2026-10-25T01", at(2026, 10, 25, 1, 0),
           at(2026, 10, 25, 2, 0));
    expect(PERIOD_HOUR, "UTC", at(2026, 10, 25, 1, 10), "2026-10-25T01", at(2026, 10, 25, 1, 0),
           at(2026, 10, 25, 2, 0));
    expect(PERIOD_TOTAL, "Asia/Kolkata", 77, "total", 0, INT64_MAX / 1000000);
}

/* Whatever the clocks do, windows follow each other without gap or overlap, and each has a name of its own. */
static void test_windows_of_every_zone_are_a_partition_of_time(void **state)
{
    static const char *const ZONES[] = {
        "UTC",           "Europe/Berlin",     "America/New_York", "Australia/Lord_Howe",
        "Asia/Kolkata",  "America/St_Johns",  "America/Havana",   "Africa/Casablanca",
        "Pacific/Apia",  "America/Sao_Paulo", "Asia/Beirut",      "Antarctica/Troll",
        "Europe/Dublin", "Asia/Kathmandu",    "Pacific/Chatham",  "Africa/Cairo"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ZONES); i++)
        for (unsigned p = PERIOD_HOUR; p < PERIOD_COUNT; p++) {
            struct cycle c = {(enum period)p, zone(ZONES[i])};
            struct wall t = {at(p == PERIOD_HOUR ? 2026 : 2005, 1, 1, 0, 0) * 1000000};
            int64_t until = at(p == PERIOD_HOUR ? 2028 : 2045, 1, 1, 0, 0) * 1000000;
            char before[PERIOD_WINDOW_CAP] = "", now[PERIOD_WINDOW_CAP];

            while (t.us < until) {
                struct window_span w = cycle_window(c, t), last;

                assert_true(w.start_us <= t.us && t.us < w.end_us);
                last = cycle_window(c, (struct wall){w.end_us - 1});
                assert_true(last.start_us == w.start_us && last.end_us == w.end_us);
                (void)cycle_name(c, t, now);
                assert_string_not_equal(now, before);
                memcpy(before, now, sizeof(now));
                (void)cycle_name(c, (struct wall){w.end_us - 1}, now);
                assert_string_equal(now, before);
                if (cycle_window(c, (struct wall){w.end_us}).start_us != w.end_us)
                    fail_msg("%s %s: a gap at %lld", ZONES[i], before, (long long)w.end_us);
                t.us = w.end_us;
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offsets_change_at_the_second),
        cmocka_unit_test(test_the_rule_goes_on_behind_the_table),
        cmocka_unit_test(test_local_times_that_exist_twice_or_never),
        cmocka_unit_test(test_rules_of_every_form_are_read),
        cmocka_unit_test(test_files_that_make_no_sense_are_refused),
        cmocka_unit_test(test_days_of_23_and_25_hours),
        cmocka_unit_test(test_weeks_months_and_hours_by_local_clocks),
        cmocka_unit_test(test_windows_of_every_zone_are_a_partition_of_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
