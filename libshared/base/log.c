/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "libshared/base/buf.h"
#include "libshared/base/clock.h"

static _Atomic int max_level = LOG_INFO;
static const char *program = "gatewayd";

void log_set_level(enum log_level level)
{
    atomic_store(&max_level, (int)level);
}
void log_set_name(const char *name)
{
    program = name;
}

void log_msg(enum log_level level, const char *fmt, ...)
{
    static const char *const NAMES[] = {"error", "warn", "info", "debug"};
    struct buf line AUTO(buf_release) = {.max = 16384};
    char text[4096];
    char when[WALL_TEXT_CAP];
    va_list ap;

    if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed))
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)wall_format(wall_now(), when, sizeof(when));
    buf_addf(&line, "{\"at\":\"%s\",\"level\":\"%s\",\"program\":\"%s\",\"msg\":", when, NAMES[level],
             program);
    buf_add_json(&line, span_of(text));
    buf_addz(&line, "}\n");
    if (line.p)
        (void)!write(STDERR_FILENO, line.p, line.len);
}
