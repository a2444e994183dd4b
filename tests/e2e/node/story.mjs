// SPDX-License-Identifier: Apache-2.0
// The official OpenAI SDK for Node against the gateway named by BASE_URL. Prints one line per check, exits 1 at the first failure.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.KEY, maxRetries: 0, timeout: 20000 });
const say = (text) => [{ role: "user", content: text }];
const weather = {
  type: "function",
  function: { name: "get_weather", parameters: { type: "object", required: ["city"], properties: { city: { type: "string" } } } },
};
const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGD4DwABBAEAX+XDSwAAAABJRU5ErkJggg==";

async function throws(type, status, call) {
  try {
    await call();
  } catch (e) {
    assert.ok(e instanceof type, `${e.constructor.name} instead of ${type.name}: ${e.message}`);
    assert.equal(e.status, status);
    return e;
  }
  assert.fail(`no ${type.name}`);
}

const checks = {
  async "chat buffered"() {
    const { data, response } = await client.chat.completions.create({ model: "chat", messages: say("[[echo]]Grüße 🌍") }).withResponse();
    assert.equal(data.choices[0].message.content, "Grüße 🌍");
    assert.ok(data.usage.total_tokens > 0);
    assert.equal(response.headers.get("x-gatewayd-attempts"), "1");
  },
  async "chat streamed"() {
    let text = "";
    for await (const c of await client.chat.completions.create({ model: "chat", messages: say("[[echo]]one two 三"), stream: true }))
      text += c.choices[0].delta.content ?? "";
    assert.equal(text, "one two 三");
  },
  async "chat streamed with usage"() {
    let usage;
    const options = { model: "chat", messages: say("[[tokens=40]]"), stream: true, stream_options: { include_usage: true } };
    for await (const c of await client.chat.completions.create(options)) usage = c.usage ?? usage;
    assert.equal(usage.completion_tokens, 40);
  },
  async "stream aborted"() {
    const stream = await client.chat.completions.create({ model: "chat", messages: say("[[tokens=200000]]"), stream: true });
    let seen = 0;
    for await (const _ of stream) if (++seen === 3) break;
    assert.equal(seen, 3);
  },
  async tools() {
    const tool_choice = { type: "function", function: { name: "get_weather" } };
    const answer = await client.chat.completions.create({ model: "chat", messages: say("weather"), tools: [weather], tool_choice });
    const [call] = answer.choices[0].message.tool_calls;
    assert.ok("city" in JSON.parse(call.function.arguments));
    let pieces = "";
    const options = { model: "chat", messages: say("weather"), tools: [weather], tool_choice, stream: true };
    for await (const c of await client.chat.completions.create(options))
      pieces += c.choices[0].delta.tool_calls?.[0].function?.arguments ?? "";
    assert.ok("city" in JSON.parse(pieces));
  },
  async "vision input"() {
    const content = [{ type: "text", text: "[[echo]]a pixel" }, { type: "image_url", image_url: { url: `data:image/png;base64,${pixel}` } }];
    const answer = await client.chat.completions.create({ model: "chat", messages: [{ role: "user", content }] });
    assert.equal(answer.choices[0].message.content, "a pixel");
  },
  async embeddings() {
    const answer = await client.embeddings.create({ model: "embed", input: ["a", "b"], dimensions: 16 });
    assert.deepEqual(answer.data.map((d) => d.embedding.length), [16, 16]);
  },
  async "models list"() {
    const names = [];
    for await (const m of client.models.list()) names.push(m.id);
    assert.ok(names.includes("chat") && names.includes("embed"));
    assert.equal((await client.models.retrieve("chat")).id, "chat");
  },
  async responses() {
    const answer = await client.responses.create({ model: "chat", input: "[[echo]]hello there" });
    assert.equal(answer.output_text, "hello there");
  },
  async "error types"() {
    const ask = (model, c = client) => () => c.chat.completions.create({ model, messages: say("x") });
    const stranger = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "sk-wrong-0123456789", maxRetries: 0 });
    const limited = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.LIMITED_KEY, maxRetries: 0 });
    assert.equal((await throws(OpenAI.AuthenticationError, 401, ask("chat", stranger))).code, "invalid_api_key");
    await throws(OpenAI.PermissionDeniedError, 403, ask("chat", limited));
    await throws(OpenAI.NotFoundError, 404, ask("no-such-model"));
    await throws(OpenAI.BadRequestError, 400, ask("refused-400"));
    await throws(OpenAI.RateLimitError, 429, ask("refused-429"));
    await throws(OpenAI.InternalServerError, 500, ask("refused-500"));
    await throws(OpenAI.InternalServerError, 529, ask("refused-529"));
  },
};

for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok ${name}`);
  } catch (e) {
    console.log(`FAILED ${name}: ${e.stack}`);
    process.exitCode = 1;
  }
}
console.log(`${Object.keys(checks).length} checks`);
