/* SPDX-License-Identifier: Apache-2.0 */
/* Main thread only. It never waits: a manager that does not read loses the word, and the gateway goes on. */
#include "gatewayd/core/notify.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libshared/base/clock.h"

static void tell(const char *text)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t n = path ? strlen(path) : 0;
    int fd;

    if ((n == 0 || n >= sizeof(to.sun_path)) || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(to.sun_path, path, n);
    if (path[0] == '@')
        to.sun_path[0] = '\0'; /* of the abstract namespace */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&to,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    (void)close(fd);
}

void notify_ready(void)
{
    tell("READY=1\nSTATUS=serving");
}

void notify_reloading(void)
{
    char text[96];

    (void)snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=reading the configuration",
                   (long long)mono_now().us);
    tell(text);
}

void notify_stopping(void)
{
    tell("STOPPING=1\nSTATUS=open requests end, nothing new is taken");
}
