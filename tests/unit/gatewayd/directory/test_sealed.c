/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/directory/sealed.h"

#include "tests/unit/gatewayd/directory/temp.h"

static const struct span TEXT = {"{\"a\":1}", 7};

static enum err_code open_it(struct buf *out)
{
    struct err err = {0};

    buf_clear(out);
    return sealed_read(temp_dir, out, &err);
}

static void write_it(void)
{
    struct err err = {0};

    if (sealed_write(temp_dir, TEXT, &err))
        fail_msg("%s", err_text(&err));
}

static void test_what_was_written_comes_back(void **state)
{
    struct buf out AUTO(buf_release) = {0};
    struct stat st;

    (void)state;
    assert_int_equal(open_it(&out), ERR_NOT_FOUND);
    write_it();
    assert_int_equal(open_it(&out), ERR_OK);
    assert_true(span_eq(buf_span(&out), TEXT));
    assert_int_equal(stat(temp_path("snapshot.key"), &st), 0);
    assert_int_equal(st.st_size, 32);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(temp_path("directory.snapshot"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    write_it(); /* with the same key, in place of the first */
    assert_int_equal(open_it(&out), ERR_OK);
}

static void test_every_flipped_bit_is_refused(void **state)
{
    struct buf good AUTO(buf_release) = {0}, out AUTO(buf_release) = {0};

    (void)state;
    write_it();
    read_all(temp_path("directory.snapshot"), &good);
    assert_true(good.len > 64);
    for (size_t i = 0; i < good.len * 8; i++) {
        good.p[i / 8] = (char)(good.p[i / 8] ^ (1 << i % 8));
        write_file(temp_path("directory.snapshot"), buf_span(&good));
        assert_int_equal(open_it(&out), ERR_CONFLICT);
        good.p[i / 8] = (char)(good.p[i / 8] ^ (1 << i % 8));
    }
    write_file(temp_path("directory.snapshot"), buf_span(&good));
    assert_int_equal(open_it(&out), ERR_OK);
}

static void test_every_cut_and_every_addition_is_refused(void **state)
{
    struct buf good AUTO(buf_release) = {0}, out AUTO(buf_release) = {0};

    (void)state;
    write_it();
    read_all(temp_path("directory.snapshot"), &good);
    for (size_t n = 0; n < good.len; n++) {
        write_file(temp_path("directory.snapshot"), span_make(good.p, n));
        assert_int_equal(open_it(&out), ERR_CONFLICT);
    }
    buf_addc(&good, '\n');
    write_file(temp_path("directory.snapshot"), buf_span(&good));
    assert_int_equal(open_it(&out), ERR_CONFLICT);
}

static void test_another_key_or_none_or_one_that_others_read_is_refused(void **state)
{
    struct buf out AUTO(buf_release) = {0}, key AUTO(buf_release) = {0};

    (void)state;
    write_it();
    read_all(temp_path("snapshot.key"), &key);
    assert_int_equal(chmod(temp_path("snapshot.key"), 0640), 0);
    assert_int_equal(open_it(&out), ERR_CONFLICT);
    assert_int_equal(chmod(temp_path("snapshot.key"), 0600), 0);
    assert_int_equal(open_it(&out), ERR_OK);
    write_file(temp_path("snapshot.key"), span_make(key.p, 31));
    assert_int_equal(open_it(&out), ERR_CONFLICT);
    key.p[0] = (char)(key.p[0] ^ 1);
    write_file(temp_path("snapshot.key"), buf_span(&key));
    assert_int_equal(open_it(&out), ERR_CONFLICT);
    assert_int_equal(remove(temp_path("snapshot.key")), 0);
    assert_int_equal(open_it(&out), ERR_CONFLICT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_was_written_comes_back, make_temp, drop_temp),
        cmocka_unit_test_setup_teardown(test_every_flipped_bit_is_refused, make_temp, drop_temp),
        cmocka_unit_test_setup_teardown(test_every_cut_and_every_addition_is_refused, make_temp, drop_temp),
        cmocka_unit_test_setup_teardown(test_another_key_or_none_or_one_that_others_read_is_refused,
                                        make_temp, drop_temp),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
