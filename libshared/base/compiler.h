/* SPDX-License-Identifier: Apache-2.0 */
/* Words the compiler understands, spelt once. */
#ifndef BASE_COMPILER_H
#define BASE_COMPILER_H

#define NODISCARD              __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED                 __attribute__((unused))
#define LIKELY(x)              __builtin_expect(!!(x), 1)
#define UNLIKELY(x)            __builtin_expect(!!(x), 0)
/* A local that owns: `struct buf b AUTO(buf_release) = {0};` */
#define AUTO(fn)                        __attribute__((cleanup(fn)))
#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr) - __builtin_offsetof(type, member)))

#endif
