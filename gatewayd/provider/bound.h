/* SPDX-License-Identifier: Apache-2.0 */
/* The most that a request can cost, known before it is sent: what a reservation holds. A byte-level tokenizer never
 * makes more tokens of a text than it has UTF-8 bytes, and a model never reads more than its context; so bytes, and
 * the context where it is known, bound the prompt, and the enforced maximum bounds the answer. Pure. */
#ifndef PROVIDER_BOUND_H
#define PROVIDER_BOUND_H

#include "gatewayd/provider/pricing.h"

/* Tokens that a vendor adds around messages and tools, which no byte of the body stands for. */
#define BOUND_ALLOWANCE 4096u
/* Prompts that read more than their bytes, by models whose context is not known. */
#define BOUND_CONTEXT 1048576u
/* Answers whose maximum nobody states: above what models without a catalogue row generate. */
#define BOUND_OUTPUT 131072u
/* Tokens of one image where they are billed: above what the finest that is offered takes. */
#define BOUND_IMAGE 16384u

struct bound_facts {
    uint64_t body_bytes;
    uint64_t max_tokens; /* 0: not said */
    uint64_t n;          /* answers, 0 is 1 */
    uint64_t predicted;  /* bytes of a foretold answer, which may be billed on top */
    uint64_t searches;   /* paid calls of tools, at most; the prompt may be read again behind each */
    bool has_output;     /* the operation generates tokens */
    bool has_images;     /* it generates `n` images */
    bool
        reads_more; /* than its bytes: remote images, files, earlier answers; then up to the model's context */
};

/* Nano-USD, rounded up, saturating; never below price_cost_nanousd() of what the request can report. */
int64_t bound_nanousd(const struct price *p, const struct bound_facts *f);
#endif
