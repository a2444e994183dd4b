/* SPDX-License-Identifier: Apache-2.0 */
/* The last check of an address, at the socket: what a resolver said before does not count there. */
#include "gatewayd/http/client.c"

#include "tests/unit/cm.h"

struct at_socket {
    struct client client;
    struct mailbox *mailbox;
    struct site *site;
    struct client_call call;
};

static int set_up(void **state)
{
    struct at_socket *s = calloc(1, sizeof(*s));

    s->site = calloc(1, sizeof(struct site) + 16);
    s->call.client = &s->client;
    s->call.site = s->site;
    s->call.timeouts.total_us = s->call.timeouts.idle_us = 1000000;
    s->client.loop = loop_new(NULL);
    s->mailbox = mailbox_new(s->client.loop, NULL);
    s->client.resolver = resolver_new(s->client.loop, s->mailbox, NULL, NULL);
    s->site->name = resolver_name(s->client.resolver, SPAN_LIT("a.example"));
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct at_socket *s = *state;

    resolver_free(s->client.resolver);
    mailbox_free(s->mailbox);
    loop_free(s->client.loop);
    free(s->site);
    free(s);
    return 0;
}

static struct address address_of(const char *text)
{
    struct address a;

    assert_true(address_parse(span_of(text), &a));
    return a;
}

static void test_a_name_may_not_be_connected_to_an_address_inside(void **state)
{
    struct at_socket *s = *state;
    struct address inside = address_of("10.0.0.1"), outside = address_of("192.0.2.1");

    assert_true(may_connect(&s->call, &outside));
    assert_false(s->call.was_blocked);
    assert_false(may_connect(&s->call, &inside));
    assert_true(s->call.was_blocked);
    s->call.allow_private = true;
    assert_true(may_connect(&s->call, &inside));
    s->call.allow_private = false;
    s->site->name = NULL; /* a literal */
    assert_true(may_connect(&s->call, &inside));
}

static void test_a_pooled_connection_to_an_address_inside_is_for_those_who_may(void **state)
{
    struct at_socket *s = *state;
    struct address inside = address_of("::1");

    assert_false(may_send(&s->call, &inside, false));
    assert_true(s->call.was_blocked);
    assert_false(s->call.timing.was_sent);
    s->call.allow_private = true;
    assert_true(may_send(&s->call, &inside, false));
    assert_true(s->call.timing.was_sent);
    loop_timer_cancel(s->client.loop, &s->call.timer);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_name_may_not_be_connected_to_an_address_inside),
        TEST(test_a_pooled_connection_to_an_address_inside_is_for_those_who_may),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
