-- SPDX-License-Identifier: Apache-2.0
-- An everyday request: two messages, three hundred bytes, a key.
local question = "Hello, please tell me something about gateways and their observability, in a few sentences."
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. (os.getenv("BENCH_KEY") or "none")
wrk.body = '{"model":"gpt-4o-mini","messages":[{"role":"system","content":"You are a helpful assistant."},' ..
  '{"role":"user","content":"' .. question .. '"}],"temperature":0.7,"max_tokens":256}'
