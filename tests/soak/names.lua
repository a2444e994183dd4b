-- SPDX-License-Identifier: Apache-2.0
-- A fixed number of requests, each for a model that nobody has named before; then the connections stand idle, so that none is cut off
-- in the middle. Two of three name a provider, one has a character that turns the text around.
local quota, sent, named = tonumber(os.getenv("NAMES_SHARE")), 0, tonumber(os.getenv("NAMES_FROM"))
local forms = {[0] = "openai/invented-%d", "invented-%d", "openai/\\u202einvented-%d"}
local headers = {["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. os.getenv("NAMES_KEY")}

function delay()
  if sent >= quota then return 100000000 end
  sent = sent + 1
  return 0
end

function request()
  named = named + 1
  return wrk.format("POST", "/v1/chat/completions", headers,
    '{"model":"' .. forms[named % 3]:format(named) .. '","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}')
end
