/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway of `aigwctl demo`: a child with simulated providers, a private directory, a name that others can use. */
#ifndef AIGWCTL_DEMO_GATEWAY_H
#define AIGWCTL_DEMO_GATEWAY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct demo_gateway {
    pid_t pid;           /* 0: not running */
    char dir[128];       /* removed at the end; "" before */
    char url[64];        /* http://127.0.0.1:8080 */
    char admin_url[192]; /* unix:… */
    char context[32];    /* the name it is registered under, "" when it could not be */
    char program[1024];  /* this program as others in this directory would type it */
    uint16_t port;
    bool is_moved; /* the wanted port was taken */
    json_t *keys;  /* {tenant: key} */
};

/* Says what went wrong and returns an exit code. */
int demo_gateway_start(struct demo_gateway *g, uint16_t wanted_port);
/* False when the child has ended by itself, which it should not. */
bool demo_gateway_is_alive(struct demo_gateway *g);
/* What the gateway wrote last, to stderr. */
void demo_gateway_print_log(const struct demo_gateway *g);
/* Ends the child and removes everything. */
void demo_gateway_stop(struct demo_gateway *g);

#endif
