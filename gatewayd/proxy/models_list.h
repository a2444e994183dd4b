/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/models and /v1/models/{id}: what this key may ask for, in the OpenAI shape. */
#ifndef PROXY_MODELS_LIST_H
#define PROXY_MODELS_LIST_H

#include "gatewayd/proxy/request.h"

enum step models_list_answer(struct request *rq);

#endif
