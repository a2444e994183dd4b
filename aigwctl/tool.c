/* SPDX-License-Identifier: Apache-2.0 */
/* Files, other programs and other servers, for commands that write and check what those read. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "aigwctl/alerts.h"

extern char **environ;

static void drain(int fd, struct buf *out)
{
    char text[4096];
    ssize_t n;

    while ((n = read(fd, text, sizeof(text))) > 0 || (n < 0 && errno == EINTR))
        if (n > 0)
            buf_add(out, span_make(text, (size_t)n));
}

int tool_run(struct buf *out, const char *const *argv)
{
    posix_spawn_file_actions_t actions;
    int ends[2], status, rc;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC))
        return -1;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    (void)posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    rc = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(ends[1]);
    if (rc == 0)
        drain(ends[0], out);
    (void)close(ends[0]);
    if (rc)
        return -1;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int tool_read(const char *path, struct buf *out)
{
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC), why = 0;
    char text[4096];
    ssize_t n;

    if (fd < 0)
        return ctl_fail(errno == ENOENT ? CLI_NOT_FOUND : CLI_FAILED, "cannot read '%s': %s", path,
                        strerror(errno));
    do {
        n = read(fd, text, sizeof(text));
        if (n > 0 && buf_append(out, text, (size_t)n))
            why = EFBIG;
        if (n < 0 && errno != EINTR)
            why = errno;
    } while (!why && (n > 0 || (n < 0 && errno == EINTR)));
    if (!is_stdin)
        (void)close(fd);
    return why ? ctl_fail(CLI_FAILED, "cannot read '%s': %s", path, strerror(why)) : CLI_OK;
}

static bool write_all(int fd, struct span text)
{
    while (text.len) {
        ssize_t n = write(fd, text.p, text.len);

        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0)
            text = span_make(text.p + n, text.len - (size_t)n);
    }
    return true;
}

int tool_write(const char *path, struct span text)
{
    struct buf temp AUTO(buf_release) = {0};
    int fd, why = 0;

    if (strcmp(path, "-") == 0)
        return fwrite(text.p, 1, text.len, stdout) == text.len
                   ? CLI_OK
                   : ctl_fail(CLI_FAILED, "the output could not be written");
    buf_addf(&temp, "%s.%ld.new", path, (long)getpid());
    fd = open(temp.p, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return ctl_fail(CLI_FAILED, "cannot write '%s': %s", path, strerror(errno));
    if (!write_all(fd, text))
        why = errno;
    if (close(fd) && !why)
        why = errno;
    if (!why && rename(temp.p, path))
        why = errno;
    if (!why)
        return CLI_OK;
    (void)unlink(temp.p);
    return ctl_fail(CLI_FAILED, "cannot write '%s': %s", path, strerror(why));
}

int tool_get_json(struct ctl *ctl, const char *url, const char *path, json_t **out)
{
    struct api_client_options o = {.url = url, .timeout_ms = (long)ctl->timeout_ms, .is_over = &ctl_stop};
    struct api_answer a = {0};
    struct err err = {0};
    json_error_t why;
    struct api_client *c = api_client_new(&o, &err);
    int rc = CLI_OK;

    *out = NULL;
    if (!c)
        return ctl_fail(CLI_USAGE, "%s", err_text(&err));
    if (api_client_call(c, "GET", path, (struct span){0}, &a, &err))
        rc = ctl_fail(CLI_NO_ANSWER, "no answer from %s: %s", url, err_text(&err));
    else if (!(*out = json_loadb(a.body.p ? a.body.p : "", a.body.len, 0, &why)))
        rc = ctl_fail(CLI_FAILED, "the answer of %s (HTTP %d) is not JSON", url, a.status);
    else if (a.status < 200 || a.status > 299)
        rc = ctl_refused(&a);
    if (rc) {
        json_decref(*out);
        *out = NULL;
    }
    api_answer_release(&a);
    api_client_free(c);
    return rc;
}
