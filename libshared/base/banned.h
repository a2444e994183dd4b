/* SPDX-License-Identifier: Apache-2.0 */
/* Included before every product source by the build: a call that house rules ban does not compile. The headers that
 * declare the names come first, because a poisoned name may not even be declared again. */
#ifndef BASE_BANNED_H
#define BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Under clang the fortified headers spell these two as macros, and a macro cannot be poisoned. */
#undef sprintf
#undef vsprintf
#pragma GCC poison strcpy strcat sprintf vsprintf strtok gmtime localtime popen gets
/* `system` is a word of the domain too (the system prompt), so only its call is banned. */
#define system(command) system_is_banned_here[(command)]

#endif
