/* SPDX-License-Identifier: Apache-2.0 */
/* Named places where tests kill the process: CRASH_POINT(name) for a row of crash_points.def. Builds without
 * CRASH_POINTS contain nothing of it. With it, GATEWAYD_CRASH=name[:k] kills the process by SIGKILL when that
 * place is reached for the k-th time, and GATEWAYD_CRASH_COUNTS=file counts how often each was reached, in a
 * shared mapping of one uint64 per row, so that the counts survive. */
#ifndef BASE_CRASH_H
#define BASE_CRASH_H

enum crash_point {
#define POINT(name, text) CRASH_##name,
#include "libshared/base/crash_points.def"
#undef POINT
    CRASH_COUNT
};

#ifdef CRASH_POINTS
#define CRASH_POINT(name) crash_point(CRASH_##name)
void crash_point(enum crash_point p);
/* The simulation's: called instead of killing; NULL is the default. */
extern void (*crash_hook)(enum crash_point p);
#else
#define CRASH_POINT(name) ((void)0)
#endif

const char *crash_point_name(enum crash_point p);

#endif
