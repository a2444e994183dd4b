/* SPDX-License-Identifier: Apache-2.0 */
/* `${NAME}`, `${NAME:-default}` and `file:/path`. Expanded text may be a secret: buffers are wiped, and no
 * message repeats what a variable or a file held. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gatewayd/config/config_priv.h"

void wipe_buf(struct buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->cap);
    buf_release(b);
}

static size_t name_len(struct span s)
{
    size_t n = 0;

    while (n < s.len && ((s.p[n] >= 'A' && s.p[n] <= 'Z') || (s.p[n] >= 'a' && s.p[n] <= 'z') ||
                         s.p[n] == '_' || (n && s.p[n] >= '0' && s.p[n] <= '9')))
        n++;
    return n;
}

/* Adds what stands for the placeholder body `s` (between the braces). */
static enum err_code add_variable(struct build *b, struct span s, const struct origin *at, struct buf *out,
                                  bool *is_missing)
{
    size_t n = name_len(s);
    struct span rest = span_make(s.p + n, s.len - n);
    char name[128];
    const char *value;

    if (!n || n >= sizeof(name) || (rest.len && !span_starts(rest, SPAN_LIT(":-"))))
        return fail_origin(b, at,
                           "'${' must be followed by 'NAME}' or 'NAME:-default}'; '$${' is a plain '${'");
    (void)span_copy(name, sizeof(name), span_make(s.p, n));
    value = getenv(name);
    if (rest.len && (!value || !value[0])) {
        buf_add(out, span_make(rest.p + 2, rest.len - 2));
        return ERR_OK;
    }
    if (!value && b->may_lack) {
        *is_missing = true;
        return ERR_OK;
    }
    if (!value)
        return fail_origin(b, at, "environment variable '%s' is not set%s%s", name,
                           b->subject ? ", needed by " : "", b->subject ? b->subject : "");
    if (buf_append(out, value, strlen(value)))
        return fail_origin(b, at, "environment variable '%s' makes the value longer than %u bytes", name,
                           LIMIT_CONFIG_VALUE);
    return ERR_OK;
}

enum err_code expand(struct build *b, struct span text, const struct origin *at, struct buf *out,
                     bool *is_missing)
{
    bool has_variables = text.len && memchr(text.p, '$', text.len);

    *is_missing = false;
    if (text.len > LIMIT_CONFIG_VALUE)
        return fail_origin(b, at, "the value is longer than %u bytes", LIMIT_CONFIG_VALUE);
    buf_init(out, LIMIT_CONFIG_VALUE);
    if (buf_reserve(out, has_variables ? LIMIT_CONFIG_VALUE
                                       : text.len)) /* at once: growth would leave copies behind */
        return err_set(b->err, ERR_NO_MEMORY, "no memory for a value");
    while (text.len) {
        const char *dollar = memchr(text.p, '$', text.len);
        size_t plain = dollar ? (size_t)(dollar - text.p) : text.len;
        const char *close;
        enum err_code e;

        buf_add(out, span_make(text.p, plain));
        text = span_make(text.p + plain, text.len - plain);
        if (span_starts(text, SPAN_LIT("$${"))) {
            buf_addz(out, "${");
            text = span_make(text.p + 3, text.len - 3);
        } else if (span_starts(text, SPAN_LIT("${"))) {
            close = memchr(text.p, '}', text.len);
            if (!close)
                return fail_origin(b, at, "'${' is not closed by '}'; '$${' is a plain '${'");
            e = add_variable(b, span_make(text.p + 2, (size_t)(close - text.p) - 2), at, out, is_missing);
            if (e)
                return e;
            text = span_make(close + 1, text.len - (size_t)(close + 1 - text.p));
        } else if (text.len) {
            buf_addc(out, '$');
            text = span_make(text.p + 1, text.len - 1);
        }
    }
    return ERR_OK;
}

static enum err_code read_all(struct build *b, int fd, const char *path, const struct origin *at,
                              struct buf *out)
{
    ssize_t got;

    buf_init(out, LIMIT_SECRET_FILE);
    if (buf_reserve(out, LIMIT_SECRET_FILE))
        return err_set(b->err, ERR_NO_MEMORY, "no memory for a secret");
    while ((got = read(fd, out->p + out->len, LIMIT_SECRET_FILE - out->len)) > 0)
        out->len += (size_t)got;
    if (got < 0)
        return fail_origin(b, at, "the secret file '%s' cannot be read: %s", path, strerrordesc_np(errno));
    if (out->len == LIMIT_SECRET_FILE)
        return fail_origin(b, at, "the secret file '%s' is larger than %u bytes", path,
                           LIMIT_SECRET_FILE - 1);
    while (out->len && (out->p[out->len - 1] == '\n' || out->p[out->len - 1] == '\r'))
        out->len--;
    out->p[out->len] = '\0';
    return out->len ? ERR_OK : fail_origin(b, at, "the secret file '%s' is empty", path);
}

enum err_code read_secret_file(struct build *b, const char *path, const struct origin *at, struct buf *out)
{
    struct stat st;
    enum err_code e;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return fail_origin(b, at, "the secret file '%s' cannot be opened: %s", path, strerrordesc_np(errno));
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        (void)close(fd);
        return fail_origin(b, at, "the secret file '%s' is no regular file", path);
    }
    if (st.st_mode & S_IROTH)
        warn_origin(b, at, "the secret file '%s' can be read by everyone; its mode should be 0600", path);
    e = read_all(b, fd, path, at, out);
    (void)close(fd);
    return e;
}

enum err_code read_secret(struct build *b, struct span text, const struct origin *at, struct buf *out)
{
    char path[512];

    if (!span_starts(text, SPAN_LIT("file:"))) {
        buf_init(out, LIMIT_CONFIG_VALUE);
        return buf_append(out, text.p, text.len) ? err_set(b->err, ERR_NO_MEMORY, "no memory for a secret")
                                                 : ERR_OK;
    }
    text = span_make(text.p + 5, text.len - 5);
    if (text.len >= sizeof(path) || !text.len || text.p[0] != '/' || !value_is_printable(text))
        return fail_origin(b, at, "'file:' must be followed by an absolute path");
    (void)span_copy(path, sizeof(path), text);
    return read_secret_file(b, path, at, out);
}
