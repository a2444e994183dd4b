/* SPDX-License-Identifier: Apache-2.0 */
/* Used by one thread. */
#include "tests/support/pgserver.h"

#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READY_TRIES 600 /* of 50 ms */

struct pgserver {
    char bin[200], dir[64], url[256];
    const struct passwd *user; /* NULL: ourselves */
    pid_t pid;                 /* 0: not running */
};

static bool find_binaries(struct pgserver *s)
{
    glob_t g;
    bool found = glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &g) == 0;

    if (found) {
        (void)snprintf(s->bin, sizeof(s->bin), "%s", g.gl_pathv[g.gl_pathc - 1]);
        *strrchr(s->bin, '/') = '\0';
    }
    globfree(&g);
    return found;
}

static void become(const struct pgserver *s)
{
    int fd;

    if (s->user && (initgroups(s->user->pw_name, s->user->pw_gid) != 0 || setgid(s->user->pw_gid) != 0 ||
                    setuid(s->user->pw_uid) != 0))
        _exit(126);
    (void)prctl(PR_SET_PDEATHSIG, SIGQUIT); /* after setuid(), which clears it */
    if (chdir(s->dir) != 0 || (fd = open("log", O_WRONLY | O_CREAT | O_APPEND, 0600)) < 0)
        _exit(126);
    (void)dup2(fd, STDOUT_FILENO);
    (void)dup2(fd, STDERR_FILENO);
    if (unsetenv("LD_PRELOAD") != 0)
        _exit(126);
}

static pid_t spawn(const struct pgserver *s, const char *program, const char *const *args)
{
    char path[256];
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    become(s);
    (void)snprintf(path, sizeof(path), "%s/%s", s->bin, program);
    (void)execv(path, (char *const *)(uintptr_t)args);
    _exit(127);
}

static bool init_cluster(const struct pgserver *s)
{
    const char *args[] = {"initdb",   "-D", "data", "-A",         "trust",     "-U",
                          "postgres", "-E", "UTF8", "--locale=C", "--no-sync", NULL};
    pid_t pid = spawn(s, "initdb", args);
    int status;

    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void nap(void)
{
    struct timespec t = {.tv_nsec = 50 * 1000 * 1000};

    (void)nanosleep(&t, NULL);
}

bool pgserver_again(struct pgserver *s)
{
    const char *args[] = {"postgres",
                          "-D",
                          "data",
                          "-k",
                          s->dir,
                          "-c",
                          "listen_addresses=",
                          "-c",
                          "fsync=off",
                          "-c",
                          "full_page_writes=off",
                          "-c",
                          "shared_buffers=16MB",
                          "-c",
                          "max_connections=30",
                          NULL};

    s->pid = spawn(s, "postgres", args);
    for (int i = 0; s->pid > 0 && i < READY_TRIES; i++) {
        int status;

        if (PQping(s->url) == PQPING_OK)
            return true;
        if (waitpid(s->pid, &status, WNOHANG) == s->pid)
            break;
        nap();
    }
    if (s->pid > 0)
        pgserver_end(s, SIGQUIT);
    return false;
}

void pgserver_end(struct pgserver *s, int sig)
{
    if (s->pid <= 0)
        return;
    (void)kill(s->pid, sig);
    (void)kill(s->pid, SIGCONT); /* a test may have stopped it */
    (void)waitpid(s->pid, NULL, 0);
    s->pid = 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

void pgserver_stop(struct pgserver *s)
{
    if (!s)
        return;
    pgserver_end(s, SIGINT);
    if (s->dir[0])
        (void)nftw(s->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(s);
}

static const char *prepare(struct pgserver *s)
{
    if (!find_binaries(s))
        return "no PostgreSQL server is installed";
    if (getuid() == 0 && !(s->user = getpwnam("postgres")))
        return "root, and no user 'postgres' to run the server as";
    (void)snprintf(s->dir, sizeof(s->dir), "/tmp/gatewayd-pg-XXXXXX");
    if (!mkdtemp(s->dir))
        return "no temporary folder";
    if (s->user && chown(s->dir, s->user->pw_uid, s->user->pw_gid) != 0)
        return "the temporary folder cannot be given away";
    (void)snprintf(s->url, sizeof(s->url), "postgresql://postgres@/postgres?host=%s", s->dir);
    return NULL;
}

struct pgserver *pgserver_start(const char **why)
{
    struct pgserver *s = calloc(1, sizeof(*s));

    if (!s) {
        *why = "no memory";
        return NULL;
    }
    *why = prepare(s);
    if (!*why && !init_cluster(s))
        *why = "initdb failed";
    if (!*why && !pgserver_again(s))
        *why = "the server did not start";
    if (!*why)
        return s;
    pgserver_stop(s);
    return NULL;
}

const char *pgserver_url(const struct pgserver *s)
{
    return s->url;
}

const char *pgserver_dir(const struct pgserver *s)
{
    return s->dir;
}

pid_t pgserver_pid(const struct pgserver *s)
{
    return s->pid;
}
