-- SPDX-License-Identifier: Apache-2.0
-- A fixed number of requests, spread over models, keys and both kinds of answers; then the connections stand idle, so that none
-- is cut off in the middle. BOOKS_SHARE is how many each thread sends.
local quota, sent = tonumber(os.getenv("BOOKS_SHARE")), 0
local keys, requests = {}, {}
for key in os.getenv("BOOKS_KEYS"):gmatch("[^,]+") do keys[#keys + 1] = key end

function init(args)
  for n = 0, 19 do
    local model = ({"chat", "chat", "shaky", "mini", "unpriced"})[n % 5 + 1]
    local stream = n % 4 == 3 and ',"stream":true' or ""
    local body = '{"model":"' .. model .. '"' .. stream .. ',"messages":[{"role":"user","content":"' .. ("word "):rep(n) .. '"}]}'
    requests[n] = wrk.format("POST", "/v1/chat/completions", {
      ["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. keys[n % #keys + 1]}, body)
  end
end

function delay()
  if sent >= quota then return 100000000 end
  sent = sent + 1
  return 0
end

function request() return requests[sent % 20] end
