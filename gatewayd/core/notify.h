/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the service manager how the process is (sd_notify(3)): a datagram to $NOTIFY_SOCKET. Without one nothing happens. */
#ifndef CORE_NOTIFY_H
#define CORE_NOTIFY_H

void notify_ready(void);
/* A reload begins; notify_ready() ends it. */
void notify_reloading(void);
void notify_stopping(void);

#endif
