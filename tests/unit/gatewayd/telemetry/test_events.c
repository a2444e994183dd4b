/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/telemetry/events.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/base/log.h"
#include "libshared/store/kv_keys.h"
#include "tests/unit/cm.h"

static struct kv *kv;
static struct events *e;

static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    kv = kv_new(&(struct kv_options){.url = ""}, NULL);
    e = events_new("node-a");
    return 0;
}
static int tear_down(void **state)
{
    (void)state;
    events_free(e);
    kv_free(kv);
    return 0;
}

static void tell(struct events *to, enum event_kind kind, enum event_severity severity, const char *subject,
                 int64_t at_s)
{
    struct event ev;

    event_make(&ev, kind, severity, subject, "said of '%s'", subject);
    ev.at.us = at_s * 1000000;
    events_tell_mt(to, &ev);
}

static json_t *list(struct events *of, struct events_query q, struct events_answer *answer)
{
    struct buf b = {.max = 1 << 24}, all = {.max = 1 << 24};
    struct events_answer a = events_list_mt(of, &q, &b);
    json_t *doc;

    buf_addc(&all, '[');
    if (b.len)
        buf_add(&all, buf_span(&b));
    buf_addc(&all, ']');
    doc = json_loadb(all.p, all.len, 0, NULL);
    assert_non_null(doc);
    if (answer)
        *answer = a;
    buf_release(&b);
    buf_release(&all);
    return doc;
}

static void assert_subjects(struct events *of, struct events_query q, const char *expected)
{
    json_t *doc = list(of, q, NULL), *o;
    char text[256] = "";
    size_t i;

    json_array_foreach(doc, i, o)
    {
        size_t n = strlen(text);

        (void)snprintf(text + n, sizeof(text) - n, "%s%s", n ? " " : "",
                       json_string_value(json_object_get(o, "subject")));
    }
    assert_string_equal(text, expected);
    json_decref(doc);
}

static void test_an_event_says_what_it_was_told(void **state)
{
    struct event ev;
    json_t *doc, *o, *f;

    (void)state;
    event_make(&ev, EVENT_BUDGET, EVENT_CRITICAL, "tenant:acme", "\"%d\" %%\n", 80);
    event_add_text(&ev, "old", "ok");
    event_add_count(&ev, "requests", 12);
    event_add_number(&ev, "ratio", 0.5);
    event_add_usd(&ev, "limit", 2500000000000);
    event_add_time(&ev, "until", (struct wall){1700000000000000});
    ev.at.us = 1700000000123000;
    events_tell_mt(e, &ev);
    doc = list(e, (struct events_query){0}, NULL);
    o = json_array_get(doc, 0);
    assert_string_equal(json_string_value(json_object_get(o, "at")), "2023-11-14T22:13:20.123Z");
    assert_string_equal(json_string_value(json_object_get(o, "kind")), "budget");
    assert_string_equal(json_string_value(json_object_get(o, "severity")), "critical");
    assert_string_equal(json_string_value(json_object_get(o, "subject")), "tenant:acme");
    assert_string_equal(json_string_value(json_object_get(o, "text")), "\"80\" %\n");
    assert_string_equal(json_string_value(json_object_get(o, "node")), "node-a");
    f = json_object_get(o, "facts");
    assert_string_equal(json_string_value(json_object_get(f, "old")), "ok");
    assert_int_equal(json_integer_value(json_object_get(f, "requests")), 12);
    assert_true(json_real_value(json_object_get(f, "ratio")) == 0.5);
    assert_true(json_integer_value(json_object_get(f, "limit_nanousd")) == 2500000000000);
    assert_string_equal(json_string_value(json_object_get(f, "until")), "2023-11-14T22:13:20.000Z");
    json_decref(doc);
}

static void test_facts_past_the_last_place_are_left_out(void **state)
{
    struct event ev;

    (void)state;
    event_make(&ev, EVENT_KEY, EVENT_INFO, "k", "x");
    for (int i = 0; i < 20; i++)
        event_add_count(&ev, "n", i);
    assert_int_equal(ev.n_facts, EVENT_FACTS);
    assert_int_equal(ev.facts[EVENT_FACTS - 1].i, EVENT_FACTS - 1);
}

static void test_events_are_listed_by_time_kind_severity_and_number(void **state)
{
    unsigned kinds;

    (void)state;
    tell(e, EVENT_BREAKER, EVENT_WARNING, "b1", 10);
    tell(e, EVENT_BUDGET, EVENT_INFO, "b2", 30);
    tell(e, EVENT_HEALTH, EVENT_CRITICAL, "b3", 20);
    assert_subjects(e, (struct events_query){0}, "b1 b3 b2");
    assert_subjects(e, (struct events_query){.since.us = 20000000}, "b3 b2");
    assert_subjects(e, (struct events_query){.at_least = EVENT_WARNING}, "b1 b3");
    assert_subjects(e, (struct events_query){.limit = 1}, "b2");
    assert_true(event_kinds_parse("health, breaker", &kinds));
    assert_subjects(e, (struct events_query){.kinds = kinds}, "b1 b3");
    assert_false(event_kinds_parse("health,", &kinds));
    assert_false(event_kinds_parse("wealth", &kinds));
}

static void test_a_follower_sees_every_event_once(void **state)
{
    struct events_answer a;

    (void)state;
    tell(e, EVENT_BREAKER, EVENT_INFO, "one", 10);
    json_decref(list(e, (struct events_query){0}, &a));
    assert_subjects(e, (struct events_query){.after = a.next}, "");
    tell(e, EVENT_BREAKER, EVENT_INFO, "two", 5);
    assert_subjects(e, (struct events_query){.after = a.next}, "two");
}

static void count(void *user, struct span field, struct span value)
{
    (void)field;
    (void)value;
    ++*(unsigned *)user;
}
static unsigned in_stream(void)
{
    unsigned n = 0;

    assert_int_equal(kv_events(kv, KV_EVENTS, 5000, count, &n, NULL), ERR_OK);
    return n;
}

static void test_the_stream_gets_every_event_once(void **state)
{
    (void)state;
    for (int i = 0; i < 150; i++)
        tell(e, EVENT_STORE, EVENT_INFO, "s", 100 + i);
    assert_int_equal(events_sync(e, kv, NULL), ERR_OK);
    assert_int_equal(in_stream(), 150);
    assert_int_equal(events_sync(e, kv, NULL), ERR_OK);
    assert_int_equal(in_stream(), 150);
    assert_subjects(e, (struct events_query){.limit = 1}, "s");
    assert_int_equal(events_stats_mt(e).told, 150);
}

static void test_what_another_node_said_is_heard_and_not_said_again(void **state)
{
    struct events *other = events_new("node-b");

    (void)state;
    tell(e, EVENT_BREAKER, EVENT_WARNING, "of-a", 10);
    assert_int_equal(events_sync(e, kv, NULL), ERR_OK);
    tell(other, EVENT_BREAKER, EVENT_WARNING, "of-b", 20);
    assert_int_equal(events_sync(other, kv, NULL), ERR_OK);
    assert_subjects(other, (struct events_query){0}, "of-a of-b");
    assert_int_equal(events_sync(other, kv, NULL), ERR_OK);
    assert_int_equal(in_stream(), 2);
    events_free(other);
}

static void test_a_restart_finds_what_was_said_before(void **state)
{
    (void)state;
    tell(e, EVENT_CONFIG, EVENT_INFO, "before", 10);
    assert_int_equal(events_sync(e, kv, NULL), ERR_OK);
    events_free(e);
    e = events_new("node-a");
    tell(e, EVENT_CONFIG, EVENT_INFO, "after", 20);
    assert_int_equal(events_sync(e, kv, NULL), ERR_OK);
    assert_subjects(e, (struct events_query){0}, "before after");
    assert_int_equal(in_stream(), 2);
}

static void test_the_oldest_give_way_and_are_counted_when_no_store_has_them(void **state)
{
    json_t *doc;

    (void)state;
    for (unsigned i = 0; i < EVENTS_KEPT + 7; i++)
        tell(e, EVENT_CONFIG, EVENT_INFO, "l", 1 + (int)i);
    assert_int_equal(events_stats_mt(e).dropped, 7);
    doc = list(e, (struct events_query){0}, NULL);
    assert_int_equal(json_array_size(doc), EVENTS_KEPT);
    json_decref(doc);
    assert_int_equal(events_sync(e, kv, NULL), ERR_OK);
    tell(e, EVENT_CONFIG, EVENT_INFO, "l", 5000);
    assert_int_equal(events_stats_mt(e).dropped, 7);
}

static void test_nonsense_in_the_stream_is_left_out(void **state)
{
    static const char *const BAD[] = {"", "{}", "[1]", "{\"id\":\"zz\"}",
                                      "{\"id\":\"00000000-0000-7000-8000-000000000000\",\"at\":\"x\"}"};
    struct kv_batch *b = kv_batch_new();

    (void)state;
    for (unsigned i = 0; i < sizeof(BAD) / sizeof(*BAD); i++)
        kv_batch_event(b, KV_EVENTS, span_of(BAD[i]), 100);
    kv_batch_event(b, KV_EVENTS,
                   span_of("{\"id\":\"00000000-0000-7000-8000-000000000001\",\"at\":\"2026-01-01T00:00:00Z\","
                           "\"kind\":\"health\",\"severity\":\"info\",\"subject\":\"a\\u001b[2Jb\","
                           "\"text\":\"t\",\"node\":\"n\",\"facts\":{\"a\":[1],\"b\":2}}"),
                   100);
    kv_batch_expire(b, KV_EVENTS, 100, false);
    assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    kv_batch_free(b);
    assert_int_equal(events_sync(e, kv, NULL), ERR_OK);
    assert_subjects(e, (struct events_query){0}, "a [2Jb");
}

static void *tell_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 200; i++)
        tell(e, EVENT_PROVIDER, EVENT_INFO, "p", 1 + i);
    return NULL;
}

static void test_threads_tell_while_another_syncs(void **state)
{
    pthread_t t[4];

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, tell_many, NULL), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(events_sync(e, kv, NULL), ERR_OK);
    for (unsigned i = 0; i < 4; i++)
        (void)pthread_join(t[i], NULL);
    assert_int_equal(events_sync(e, kv, NULL), ERR_OK);
    assert_int_equal(in_stream(), 800);
    assert_int_equal(events_stats_mt(e).dropped, 0);
}

static void test_what_was_told_of_a_window_is_known(void **state)
{
    struct event ev;

    (void)state;
    event_make(&ev, EVENT_BUDGET, EVENT_WARNING, "global", "x");
    event_add_text(&ev, "window", "2026-11");
    events_tell_mt(e, &ev);
    assert_true(events_has_mt(e, EVENT_BUDGET, "global", "window", "2026-11"));
    assert_false(events_has_mt(e, EVENT_BUDGET, "global", "window", "2026-12"));
    assert_false(events_has_mt(e, EVENT_CONFIG, "global", "window", "2026-11"));
    assert_false(events_has_mt(e, EVENT_BUDGET, "tenant:a", "window", "2026-11"));
    assert_false(events_has_mt(NULL, EVENT_BUDGET, "global", "window", "2026-11"));
}

static void test_nobody_listens(void **state)
{
    struct event ev;

    (void)state;
    event_make(&ev, EVENT_KEY, EVENT_INFO, "k", "x");
    events_tell_mt(NULL, &ev);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
    static const struct CMUnitTest TESTS[] = {
        T(test_an_event_says_what_it_was_told),
        T(test_facts_past_the_last_place_are_left_out),
        T(test_events_are_listed_by_time_kind_severity_and_number),
        T(test_a_follower_sees_every_event_once),
        T(test_the_stream_gets_every_event_once),
        T(test_what_another_node_said_is_heard_and_not_said_again),
        T(test_a_restart_finds_what_was_said_before),
        T(test_the_oldest_give_way_and_are_counted_when_no_store_has_them),
        T(test_nonsense_in_the_stream_is_left_out),
        T(test_threads_tell_while_another_syncs),
        T(test_what_was_told_of_a_window_is_known),
        T(test_nobody_listens),
    };

    return cmocka_run_group_tests(TESTS, NULL, NULL);
}
