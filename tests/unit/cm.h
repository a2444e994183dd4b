/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka wants its standard headers first. */
#ifndef TESTS_UNIT_CM_H
#define TESTS_UNIT_CM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
