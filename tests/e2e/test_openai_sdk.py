# SPDX-License-Identifier: Apache-2.0
"""The official OpenAI SDK for Python, pointed at the gateway by its base URL alone, does what it does at OpenAI."""

import base64
import json

import openai
import pytest
from openai import OpenAI

from support.gateway import KEY, model, provider, sha256
from support.wait import eventually

LIMITED = "sk-aigw-limited-0123456789abcdef01234567"
PIXEL = base64.b64encode(bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c626001000000050001"
    "0d0a2db40000000049454e44ae426082")).decode()
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather at a place",
        "parameters": {
            "type": "object", "required": ["city", "unit"],
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
        },
    },
}
REFUSED = ["400", "401", "403", "404", "422", "429", "500", "503", "529"]


@pytest.fixture(scope="module")
def world(module_stage):
    sim = module_stage.simulator(seed=7)
    for name in REFUSED:
        sim.control.profile(f"always-{name}", faults={name: 1.0}, retry_after_s=-1)
    gateway = module_stage.gateway(
        [provider("openai", sim.base_url("plain")), *(provider(f"always-{n}", sim.base_url(f"always-{n}")) for n in REFUSED)],
        [model("chat", "openai/gpt-4o-mini"), model("embed", "openai/text-embedding-3-small"),
         *(model(f"refused-{n}", f"always-{n}/gpt-4o-mini", retries=0) for n in REFUSED)],
        tenants=[
            {"id": "acme", "plan": "pro", "keys": [{"id": "test", "sha256": sha256(KEY)}]},
            {"id": "small", "plan": "free", "keys": [{"id": "test", "sha256": sha256(LIMITED)}], "models": ["embed"]},
        ],
    )
    return gateway, sim


def sdk(world, key=KEY, **more):
    return OpenAI(base_url=world[0].base_url, api_key=key, max_retries=0, timeout=20, **more)


def say(text):
    return [{"role": "system", "content": "You are terse."}, {"role": "user", "content": text}]


def test_chat_buffered(world):
    answer = sdk(world).chat.completions.create(model="chat", messages=say("[[echo]]Grüße, 世界 🌍"))
    assert answer.choices[0].message.content == "Grüße, 世界 🌍"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_chat_buffered_headers(world):
    raw = sdk(world).chat.completions.with_raw_response.create(model="chat", messages=say("hello"))
    assert raw.headers["x-gatewayd-provider"] == "openai"
    assert raw.headers["x-gatewayd-model"] == "gpt-4o-mini"
    assert raw.headers["x-gatewayd-attempts"] == "1"
    assert float(raw.headers["x-gatewayd-cost-usd"]) > 0
    assert raw.headers["x-gatewayd-cache"] in ("off", "miss")
    assert raw.request_id == raw.headers["x-request-id"]
    assert len(raw.headers["x-trace-id"]) == 32 and raw.headers["x-trace-id"] in raw.headers["traceparent"]


def test_chat_streamed(world):
    stream = sdk(world).chat.completions.create(model="chat", messages=say("[[echo]]one two three 四"), stream=True)
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "one two three 四"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(c.choices for c in chunks), "the usage chunk that nobody asked for is hidden"


def test_chat_streamed_with_usage(world):
    stream = sdk(world).chat.completions.create(
        model="chat", messages=say("[[tokens=40]]"), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 40


def test_stream_helper_and_early_exit(world):
    gateway, _ = world
    before = gateway.metric("aigateway_streams_total", outcome="client_abort")
    with sdk(world).chat.completions.create(model="chat", messages=say("[[tokens=200000]]"), stream=True) as stream:
        for _ in zip(range(3), stream):
            pass
    eventually(lambda: gateway.metric("aigateway_streams_total", outcome="client_abort") == before + 1)


def test_tools_buffered_streamed_and_their_result(world):
    client = sdk(world)
    choice = {"type": "function", "function": {"name": "get_weather"}}
    answer = client.chat.completions.create(model="chat", messages=say("weather?"), tools=[WEATHER], tool_choice=choice)
    (call,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "get_weather" and set(arguments) == {"city", "unit"}

    pieces, name = "", None
    for c in client.chat.completions.create(
        model="chat", messages=say("weather?"), tools=[WEATHER], tool_choice=choice, stream=True
    ):
        for part in c.choices[0].delta.tool_calls or []:
            name = part.function.name or name
            pieces += part.function.arguments or ""
    assert name == "get_weather" and set(json.loads(pieces)) == {"city", "unit"}

    done = [*say("weather?"), answer.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "[[echo]]12 degrees"}]
    last = client.chat.completions.create(model="chat", messages=done, tools=[WEATHER])
    assert last.choices[0].finish_reason == "stop" and last.choices[0].message.content


def test_vision_input_reaches_the_provider_whole(world):
    gateway, sim = world
    sim.control.options(keep_bodies=True)
    parts = [{"type": "text", "text": "[[echo]]a pixel"},
             {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}}]
    answer = sdk(world).chat.completions.create(model="chat", messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content == "a pixel"
    seq = sim.control.settled_log()[-1]["seq"]
    assert json.loads(sim.control.body(seq))["messages"][0]["content"] == parts


def test_structured_output(world):
    schema = {"name": "s", "schema": {"type": "object", "properties": {"a": {"type": "string"}}}}
    answer = sdk(world).chat.completions.create(
        model="chat", messages=say("json"), response_format={"type": "json_schema", "json_schema": schema}
    )
    json.loads(answer.choices[0].message.content)


def test_several_choices_and_a_length_limit(world):
    answer = sdk(world).chat.completions.create(model="chat", messages=say("[[tokens=50]]"), n=3, max_tokens=5)
    assert [c.finish_reason for c in answer.choices] == ["length"] * 3
    assert answer.usage.completion_tokens == 15


def test_embeddings(world):
    texts = ["first", "second 世界"]
    answer = sdk(world).embeddings.create(model="embed", input=texts, dimensions=16)
    assert [len(d.embedding) for d in answer.data] == [16, 16]
    assert answer.data[0].embedding != answer.data[1].embedding
    assert answer.usage.prompt_tokens > 0
    floats = sdk(world).embeddings.create(model="embed", input="first", dimensions=16, encoding_format="float")
    assert floats.data[0].embedding == pytest.approx(answer.data[0].embedding, abs=1e-6)


def test_models_list_and_one_model(world):
    listed = list(sdk(world).models.list())
    names = {m.id for m in listed}
    assert {"chat", "embed"} <= names
    assert all(m.object == "model" for m in listed)
    assert sdk(world).models.retrieve("chat").id == "chat"
    assert {m.id for m in sdk(world, LIMITED).models.list()} == {"embed"}, "only what the key may use"


def test_text_completions_moderations_and_speech(world):
    client = sdk(world)
    assert client.completions.create(model="openai/gpt-3.5-turbo-instruct", prompt="say").choices[0].text
    assert client.moderations.create(model="openai/omni-moderation-latest", input="x").results
    assert client.audio.speech.create(model="openai/tts-1", voice="alloy", input="hello").content


def test_responses_api(world):
    answer = sdk(world).responses.create(model="chat", input="[[echo]]hello there")
    assert answer.output_text == "hello there"
    assert answer.usage.output_tokens > 0
    text = "".join(e.delta for e in sdk(world).responses.create(model="chat", input="[[echo]]hello there", stream=True)
                   if e.type == "response.output_text.delta")
    assert text == "hello there"


def test_transcription_is_a_form(world):
    answer = sdk(world).audio.transcriptions.create(model="openai/whisper-1", file=("a.wav", b"RIFF" + bytes(2000)))
    assert answer.text


# ---- errors -------------------------------------------------------------------------------------------------------
def ask(client, name="chat", **more):
    return client.chat.completions.create(model=name, messages=say("hello"), **more)


@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "streamed"])
@pytest.mark.parametrize(
    "name,kind,status",
    [
        ("refused-400", openai.BadRequestError, 400),
        ("refused-422", openai.UnprocessableEntityError, 422),
        ("refused-429", openai.RateLimitError, 429),
        ("refused-500", openai.InternalServerError, 500),
        ("refused-503", openai.InternalServerError, 503),
        ("refused-529", openai.InternalServerError, 529),
        ("refused-401", openai.InternalServerError, 502),
        ("refused-403", openai.InternalServerError, 502),
        ("no-such-model", openai.NotFoundError, 404),
        ("openai/", openai.NotFoundError, 404),
    ],
)
def test_errors_are_raised_as_the_types_of_the_sdk(world, name, kind, status, stream):
    """The gateway's own credentials being refused (401, 403) is no fault of the client, so it is a 502."""
    with pytest.raises(kind) as raised:
        ask(sdk(world), name, stream=stream)
    e = raised.value
    assert e.status_code == status and e.message and e.type, e.body
    assert e.request_id
    assert "sk-upstream" not in str(e.body)


@pytest.mark.parametrize("key", ["sk-wrong-0123456789abcdef", "x", "sk-aigw-test-0123456789abcdef0123456788"])
def test_wrong_key_is_an_authentication_error(world, key):
    with pytest.raises(openai.AuthenticationError) as raised:
        ask(sdk(world, key))
    assert raised.value.code == "invalid_api_key" and key not in raised.value.message


def test_missing_key_is_an_authentication_error(world):
    answer = world[0].post("/v1/chat/completions", {"model": "chat", "messages": say("x")}, key=None)
    assert (answer.status, answer.json["error"]["code"]) == (401, "missing_api_key")
    assert answer.json["error"]["type"] == "authentication_error"


def test_model_that_the_tenant_may_not_use_is_a_permission_error(world):
    with pytest.raises(openai.PermissionDeniedError) as raised:
        ask(sdk(world, LIMITED))
    assert raised.value.type == "permission_error"


def test_bad_body_is_a_bad_request_error(world):
    with pytest.raises(openai.BadRequestError):
        sdk(world).post("/chat/completions", cast_to=object, body={"messages": []})
    with pytest.raises(openai.BadRequestError):
        sdk(world).chat.completions.create(model="chat", messages="not a list")


def test_unknown_path_is_a_not_found_error(world):
    with pytest.raises(openai.NotFoundError):
        sdk(world).post("/no/such/path", cast_to=object, body={})


def test_sdk_retries_of_its_own_reach_a_provider_that_recovers(world):
    gateway, sim = world
    sim.control.profile("always-503", script=["503", "ok"])
    try:
        client = OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=2, timeout=20)
        assert ask(client, "refused-503").choices
    finally:
        sim.control.profile("always-503", faults={"503": 1.0}, retry_after_s=-1)
