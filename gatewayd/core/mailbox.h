/* SPDX-License-Identifier: Apache-2.0 */
/* The only road between threads: any thread posts a letter, the owner's loop opens it. Letters of one sender
 * keep their order. A letter is embedded in its owner and belongs to the receiver until its function returns.
 */
#ifndef CORE_MAILBOX_H
#define CORE_MAILBOX_H

#include "gatewayd/core/loop.h"

struct letter;
typedef void (*letter_fn)(struct letter *); /* runs on the receiver's thread; may free the letter */

struct letter {
    struct letter *next; /* private */
    letter_fn fn;
};

struct mailbox;
struct mailbox *mailbox_new(struct loop *l, struct err *err); /* borrows the loop, which must live longer */
void mailbox_free(struct mailbox *m); /* letters that are still in it are opened first */
void mailbox_post_mt(struct mailbox *m, struct letter *letter);

#endif
