/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator is a child that dies with us. Keys and token are random for each start. */
#include "gatewayd/demo.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gatewayd/sim/sim.h"
#include "libshared/base/hash.h"
#include "libshared/base/id.h"
#include "libshared/json/json.h"

static const char *const TENANTS[] = {"demo", "acme", "refused"};

static const char PROVIDERS[] =
    "providers:\n"
    "  - {name: sim-fast, kind: openai, base_url: \"%s/sim-fast/v1\", api_keys: [sim-key-fast]}\n"
    "  - {name: sim-steady, kind: openai, base_url: \"%s/sim-steady/v1\", api_keys: [sim-key-steady]}\n"
    "  - {name: sim-flaky, kind: openai, base_url: \"%s/sim-flaky/v1\", api_keys: [sim-key-flaky]}\n";

static const char MODELS[] = "models:\n"
                             "  - {name: chat-default, targets: [{provider: sim-fast, model: echo-small}, "
                             "{provider: sim-steady, model: steady-small}]}\n"
                             "  - {name: chat-large, targets: [{provider: sim-steady, model: steady-large}, "
                             "{provider: sim-fast, model: echo-large}]}\n"
                             "  - {name: chat-flaky, targets: [{provider: sim-flaky, model: flaky-small}, "
                             "{provider: sim-fast, model: echo-small}]}\n"
                             "  - {name: chat-spread, strategy: weighted, targets: [{provider: sim-fast, "
                             "model: echo-small, weight: 3}, {provider: "
                             "sim-steady, model: steady-small, weight: 1}]}\n"
                             "  - {name: embed, targets: [{provider: sim-fast, model: echo-embed}]}\n";

static const char PRICES[] = "{\"prices\":[\n"
                             "{\"provider\":\"sim-fast\",\"model\":\"echo-small\",\"input_usd_per_mtok\":\"0."
                             "15\",\"output_usd_per_mtok\":\"0.60\"},\n"
                             "{\"provider\":\"sim-fast\",\"model\":\"echo-large\",\"input_usd_per_mtok\":\"2."
                             "50\",\"output_usd_per_mtok\":\"10\"},\n"
                             "{\"provider\":\"sim-fast\",\"model\":\"echo-embed\",\"input_usd_per_mtok\":\"0."
                             "02\",\"output_usd_per_mtok\":\"0\"},\n"
                             "{\"provider\":\"sim-steady\",\"model\":\"steady-small\",\"input_usd_per_mtok\":"
                             "\"0.25\",\"output_usd_per_mtok\":\"1.25\"},\n"
                             "{\"provider\":\"sim-steady\",\"model\":\"steady-large\",\"input_usd_per_mtok\":"
                             "\"3\",\"output_usd_per_mtok\":\"15\"},\n"
                             "{\"provider\":\"sim-flaky\",\"model\":\"flaky-small\",\"input_usd_per_mtok\":"
                             "\"0.05\",\"output_usd_per_mtok\":\"0.20\"}\n"
                             "]}\n";

static void random_key(const char *prefix, char *dst, size_t cap)
{
    unsigned char raw[20];
    char hex[41];

    random_bytes(raw, sizeof(raw));
    hex_encode(raw, sizeof(raw), hex);
    (void)snprintf(dst, cap, "%s%s", prefix, hex);
}

static enum err_code write_file(const char *path, struct span text, struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, text.p, text.len) == (ssize_t)text.len;

    if (fd >= 0)
        (void)close(fd);
    return ok ? ERR_OK : err_set(err, ERR_IO, "'%s': %s", path, strerror(errno));
}

static bool read_listen(const char *path, char *dst, size_t cap)
{
    char text[512];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text)) : -1;
    size_t len;

    if (fd >= 0)
        (void)close(fd);
    return n > 0 && json_str(json_get(span_make(text, (size_t)n), "listen"), dst, cap, &len);
}

static enum err_code fork_simulator(struct demo *d, struct err *err)
{
    char ready[512], at[64];
    struct sim_options so = {.listen = "127.0.0.1:0", .ready_file = ready, .seed = 9};
    struct timespec nap = {.tv_nsec = 10000000};
    pid_t parent = getpid();

    (void)snprintf(ready, sizeof(ready), "%s/simulator.json", d->state_dir);
    (void)unlink(ready);
    d->sim_pid = fork();
    if (d->sim_pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
            _exit(0);
        _exit(sim_main(&so));
    }
    if (d->sim_pid < 0)
        return err_set(err, ERR_IO, "simulator: fork: %s", strerror(errno));
    for (int i = 0; i < 500; i++) {
        if (read_listen(ready, at, sizeof(at))) {
            (void)snprintf(d->simulator, sizeof(d->simulator), "http://%s", at);
            return ERR_OK;
        }
        if (waitpid(d->sim_pid, NULL, WNOHANG) == d->sim_pid)
            break;
        (void)nanosleep(&nap, NULL);
    }
    return err_set(err, ERR_IO, "simulator: it did not start");
}

static void write_yaml(struct demo *d)
{
    char key[64], token[64];

    random_key("tok-", token, sizeof(token));
    buf_addf(&d->yaml, "admin: {listen: \"127.0.0.1:0\", token: \"%s\"}\n", token);
    buf_addf(&d->yaml, "prices: \"%s/prices.json\"\n", d->state_dir);
    buf_addz(&d->yaml, "health: {interval: 1s}\n"); /* nobody watches a demo for half a minute */
    buf_addf(&d->yaml, PROVIDERS, d->simulator, d->simulator, d->simulator);
    buf_addz(&d->yaml, MODELS);
    buf_addz(&d->yaml, "tenants:\n");
    buf_addc(&d->keys, '{');
    for (size_t i = 0; i < ARRAY_LEN(TENANTS); i++) {
        random_key("demo-", key, sizeof(key));
        buf_addf(&d->yaml, "  - {id: %s, plan: demo, keys: [{id: main, key: \"%s\"}]%s}\n", TENANTS[i], key,
                 i == 2 ? ", models: [embed]" : "");
        buf_addf(&d->keys, "%s\"%s\":\"%s\"", i ? "," : "", TENANTS[i], key);
    }
    buf_addc(&d->keys, '}');
}

enum err_code demo_start(struct demo *d, const char *state_dir, struct err *err)
{
    char path[512];
    const char *tmp = getenv("TMPDIR");
    enum err_code e;

    *d = (struct demo){0};
    if (state_dir) {
        (void)span_copy(d->state_dir, sizeof(d->state_dir), span_of(state_dir));
        if (mkdir(d->state_dir, 0700) < 0 && errno != EEXIST)
            return err_set(err, ERR_IO, "state directory '%s': %s", d->state_dir, strerror(errno));
    } else {
        (void)snprintf(d->state_dir, sizeof(d->state_dir), "%s/gatewayd-demo-XXXXXX", tmp ? tmp : "/tmp");
        if (!mkdtemp(d->state_dir))
            return err_set(err, ERR_IO, "state directory '%s': %s", d->state_dir, strerror(errno));
        d->owns_state_dir = true;
    }
    (void)snprintf(path, sizeof(path), "%s/prices.json", d->state_dir);
    e = write_file(path, span_of(PRICES), err);
    if (!e)
        e = fork_simulator(d, err);
    if (!e)
        write_yaml(d);
    return e;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

void demo_stop(struct demo *d)
{
    if (d->sim_pid > 0) {
        (void)kill(d->sim_pid, SIGTERM);
        (void)waitpid(d->sim_pid, NULL, 0);
    }
    if (d->owns_state_dir)
        (void)nftw(d->state_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    buf_release(&d->yaml);
    buf_release(&d->keys);
}
