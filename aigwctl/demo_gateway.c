/* SPDX-License-Identifier: Apache-2.0 */
/* The child has a process group of its own, so that Ctrl-C reaches us and we end it in order; and it dies with us should
 * we be killed. It gets an environment without keys and addresses of real services, so nothing leaves the machine. */
#include "aigwctl/demo_gateway.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "aigwctl/command.h"

#define READY_MS   20000
#define DRAIN_MS   5000
#define PORTS      64u
#define SOCKET_MAX 60u /* what a directory's path may take of the 107 bytes of a socket's */

extern char **environ;

/* ---- environment --------------------------------------------------------------------------------------------------- */

static bool is_kept(const char *entry)
{
    static const char *const DROPPED[] = {"GATEWAYD_", "REDIS_", "DATABASE_", "GRAFANA_",
                                          "SENTRY_",   "OTEL_",  "METRICS_",  NULL};
    size_t name = strcspn(entry, "=");

    for (unsigned i = 0; DROPPED[i]; i++)
        if (strncmp(entry, DROPPED[i], strlen(DROPPED[i])) == 0)
            return false;
    return !(name > 8 && strncmp(entry + name - 8, "_API_KEY", 8) == 0) &&
           !(name > 6 && strncasecmp(entry + name - 6, "_proxy", 6) == 0);
}

static char **clean_environment(void)
{
    size_t n = 0;
    char **out;

    while (environ[n])
        n++;
    out = calloc(n + 1, sizeof(char *));
    if (!out)
        abort();
    n = 0;
    for (char **e = environ; *e; e++)
        if (is_kept(*e))
            out[n++] = *e;
    return out;
}

/* ---- place --------------------------------------------------------------------------------------------------------- */

static int make_dir(struct demo_gateway *g)
{
    const char *tmp = getenv("TMPDIR");

    if (!tmp || tmp[0] != '/' || strlen(tmp) > SOCKET_MAX)
        tmp = "/tmp";
    (void)snprintf(g->dir, sizeof(g->dir), "%s/gatewayd-demo-XXXXXX", tmp);
    if (mkdtemp(g->dir))
        return CLI_OK;
    g->dir[0] = '\0';
    return ctl_fail(CLI_FAILED, "cannot make a directory in %s: %s", tmp, strerror(errno));
}

static bool port_is_free(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    bool is_free;

    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one,
                     sizeof(one)); /* connections that linger are no listener */
    is_free = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    if (fd >= 0)
        (void)close(fd);
    return is_free;
}

static uint16_t choose_port(uint16_t wanted)
{
    for (unsigned p = wanted; wanted && p < wanted + PORTS && p < 65536; p++)
        if (port_is_free((uint16_t)p))
            return (uint16_t)p;
    return 0; /* the kernel's choice */
}

/* The directory of this program, and its name as one types it from here. */
static int find_program(struct demo_gateway *g, char *gatewayd, size_t cap)
{
    char self[1024], cwd[1024];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;
    size_t here;

    if (n <= 0)
        return ctl_fail(CLI_FAILED, "cannot find this program: %s", strerror(errno));
    self[n] = '\0';
    here = getcwd(cwd, sizeof(cwd)) ? strlen(cwd) : 0;
    if (here > 1 && strncmp(self, cwd, here) == 0 && self[here] == '/')
        (void)snprintf(g->program, sizeof(g->program), ".%.1020s", self + here);
    else
        (void)snprintf(g->program, sizeof(g->program), "%s", self);
    slash = strrchr(self, '/');
    *slash = '\0';
    (void)snprintf(gatewayd, cap, "%.1000s/gatewayd", self);
    if (access(gatewayd, X_OK) != 0)
        return ctl_fail(CLI_FAILED, "there is no gatewayd beside this program: %s", gatewayd);
    return CLI_OK;
}

/* ---- name ---------------------------------------------------------------------------------------------------------- */

static bool make_parents(char *path)
{
    for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            return false;
        *p = '/';
    }
    return true;
}

static bool is_taken(const char *name)
{
    char url[256];
    int pid;

    return context_read(name, url, sizeof(url), &pid) && pid > 0 && (kill(pid, 0) == 0 || errno == EPERM);
}

/* Without a place for it the demo goes on; the banner then shows the address instead of the name. */
static void register_context(struct demo_gateway *g)
{
    char path[1024], database[sizeof(g->dir) + 24];
    char name[32] = "demo";
    json_t *o;

    for (unsigned i = 2; is_taken(name) && i < 100; i++)
        (void)snprintf(name, sizeof(name), "demo-%u", i);
    if (!context_path(name, path, sizeof(path)) || !make_parents(path))
        return;
    (void)snprintf(database, sizeof(database), "%s/state/history.db", g->dir);
    o = json_pack("{s:s, s:i, s:s}", "url", g->admin_url, "pid", (int)getpid(), "database", database);
    if (o && json_dump_file(o, path, JSON_COMPACT) == 0)
        (void)snprintf(g->context, sizeof(g->context), "%s", name);
    json_decref(o);
}

/* ---- the child ----------------------------------------------------------------------------------------------------- */

static _Noreturn void child(const struct demo_gateway *g, const char *gatewayd, pid_t parent)
{
    char listen_at[32], state[192], ready[192], log[192];
    char *argv[] = {(char *)(uintptr_t)gatewayd,
                    (char *)(uintptr_t) "--demo",
                    (char *)(uintptr_t) "--listen",
                    listen_at,
                    (char *)(uintptr_t) "--state-dir",
                    state,
                    (char *)(uintptr_t) "--ready-file",
                    ready,
                    NULL};
    int fd;

    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(0);
    (void)snprintf(listen_at, sizeof(listen_at), "127.0.0.1:%u", g->port);
    (void)snprintf(state, sizeof(state), "%s/state", g->dir);
    (void)snprintf(ready, sizeof(ready), "%s/ready.json", g->dir);
    (void)snprintf(log, sizeof(log), "%s/gatewayd.log", g->dir);
    fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || dup2(fd, STDERR_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0)
        _exit(126);
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)dup2(fd, STDIN_FILENO);
    (void)execve(gatewayd, argv, clean_environment());
    _exit(127);
}

static int take_ready(struct demo_gateway *g, const json_t *o)
{
    const char *at = json_string_value(json_object_get(o, "listen"));
    const char *admin = json_string_value(json_object_get(o, "admin_socket"));
    json_t *keys = json_object_get(o, "demo_keys");

    if (!at || !admin || !json_object_size(keys))
        return ctl_fail(CLI_FAILED, "gatewayd's ready file is not what was expected");
    (void)snprintf(g->url, sizeof(g->url), "http://%.50s", at);
    (void)snprintf(g->admin_url, sizeof(g->admin_url), "unix:%.180s", admin);
    g->keys = json_incref(keys);
    return CLI_OK;
}

static int wait_ready(struct demo_gateway *g)
{
    char path[192];
    json_t *o = NULL;
    int rc;

    (void)snprintf(path, sizeof(path), "%s/ready.json", g->dir);
    for (int ms = 0; ms < READY_MS; ms += 20) {
        o = json_load_file(path, 0, NULL);
        if (o || !demo_gateway_is_alive(g) || !ctl_sleep_ms(20))
            break;
    }
    if (!o && ctl_stop)
        return 128 + ctl_stop;
    if (!o) {
        demo_gateway_print_log(g);
        return ctl_fail(CLI_FAILED, "gatewayd did not start%s", g->pid ? " in time" : "");
    }
    rc = take_ready(g, o);
    json_decref(o);
    return rc;
}

int demo_gateway_start(struct demo_gateway *g, uint16_t wanted_port)
{
    char gatewayd[1100];
    pid_t parent = getpid();
    int rc;

    *g = (struct demo_gateway){0};
    rc = find_program(g, gatewayd, sizeof(gatewayd));
    if (!rc)
        rc = make_dir(g);
    if (rc)
        return rc;
    g->port = choose_port(wanted_port);
    g->is_moved = wanted_port && g->port != wanted_port;
    g->pid = fork();
    if (g->pid == 0)
        child(g, gatewayd, parent);
    if (g->pid < 0) {
        g->pid = 0;
        return ctl_fail(CLI_FAILED, "fork: %s", strerror(errno));
    }
    rc = wait_ready(g);
    if (!rc)
        register_context(g);
    return rc;
}

bool demo_gateway_is_alive(struct demo_gateway *g)
{
    if (g->pid && waitpid(g->pid, NULL, WNOHANG) == g->pid)
        g->pid = 0;
    return g->pid != 0;
}

void demo_gateway_print_log(const struct demo_gateway *g)
{
    char path[192], line[4096];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/gatewayd.log", g->dir);
    f = fopen(path, "re");
    if (!f)
        return;
    if (fseek(f, -8192, SEEK_END) == 0)
        (void)!fgets(line, sizeof(line), f); /* the rest of a line */
    else
        rewind(f);
    while (fgets(line, sizeof(line), f))
        term_put(stderr, line);
    (void)fclose(f);
}

/* ---- the end ------------------------------------------------------------------------------------------------------- */

static bool ends_within(struct demo_gateway *g, int ms)
{
    for (; ms > 0 && demo_gateway_is_alive(g); ms -= 10)
        (void)usleep(10000);
    return !demo_gateway_is_alive(g);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

void demo_gateway_stop(struct demo_gateway *g)
{
    char path[1024];

    if (g->context[0] && context_path(g->context, path, sizeof(path)))
        (void)unlink(path);
    if (demo_gateway_is_alive(g)) {
        (void)kill(g->pid, SIGTERM); /* drain */
        if (!ends_within(g, DRAIN_MS) && kill(g->pid, SIGTERM) == 0 /* cut */ && !ends_within(g, DRAIN_MS)) {
            (void)kill(g->pid, SIGKILL);
            (void)waitpid(g->pid, NULL, 0);
        }
    }
    if (g->dir[0])
        (void)nftw(g->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    json_decref(g->keys);
    *g = (struct demo_gateway){0};
}
