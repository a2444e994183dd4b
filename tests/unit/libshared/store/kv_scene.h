/* SPDX-License-Identifier: Apache-2.0 */
/* One suite on both realtime stores: in memory, and again on a real redis-server, which is the test's own. Both must give the same
 * answers. */
#ifndef TESTS_KV_SCENE_H
#define TESTS_KV_SCENE_H

#include "libshared/store/kv.h"
#include "tests/unit/cm.h"
#include "tests/unit/libshared/store/redis_server.h"

static struct redis_server server;
static bool on_redis;

/* A handle on an empty store of the kind that it is the turn of; the caller's. */
static inline struct kv *kv_not_begun(void)
{
    char answer[64];
    struct err err = {0};
    struct kv *kv =
        kv_new(&(struct kv_options){.url = on_redis ? server.url : "", .deadline_us = 20000000}, &err);

    if (!kv)
        fail_msg("%s", err_text(&err));
    if (on_redis)
        redis_server_ask(&server, "FLUSHALL", answer, sizeof(answer));
    return kv;
}

static inline struct kv *kv_fresh(void)
{
    struct kv *kv = kv_not_begun();

    assert_int_equal(kv_begin(kv, NULL), ERR_OK);
    return kv;
}

static inline int kv_scene_begin(void **state)
{
    (void)state;
    redis_server_start(&server, NULL);
    return 0;
}

static inline int kv_scene_end(void **state)
{
    (void)state;
    redis_server_end(&server);
    return 0;
}

/* What main() returns. */
#define KV_SCENE_RUN(tests)                                                                                  \
    ({                                                                                                       \
        int failed_ = cmocka_run_group_tests_name("memory", tests, NULL, NULL);                              \
                                                                                                             \
        on_redis = redis_server_is_installed();                                                              \
        if (on_redis)                                                                                        \
            failed_ += cmocka_run_group_tests_name("redis", tests, kv_scene_begin, kv_scene_end);            \
        failed_;                                                                                             \
    })

#endif
