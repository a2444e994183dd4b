# SPDX-License-Identifier: Apache-2.0
"""The simulated provider as the official SDKs read it, and Gemini's dialect by hand: answers, streams, tools and errors."""

import io
import json
import math
import os

import anthropic
import openai
import pytest

from support.simulated import ASK, GEMINI, HELLO, ctl, data_lines, only, post, rule_tokens, sim  # noqa: F401 (fixtures)

# -- OpenAI's SDK


@pytest.fixture
def client(sim):
    with openai.OpenAI(base_url=sim.control.url("p"), api_key="sk-sim-1", max_retries=0) as c:
        yield c


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "unit": {"type": "string", "enum": ["C", "F"]},
                },
                "required": ["city"],
            },
        },
    }
]


def test_openai_sdk_reads_a_buffered_chat(client, ctl):
    answer = client.chat.completions.create(
        model="m", messages=[{"role": "system", "content": "Grüße"}, {"role": "user", "content": "hello 🙂"}]
    )
    choice = answer.choices[0]
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-") and answer.created > 1.7e9
    assert (choice.finish_reason, choice.message.role, choice.logprobs) == ("stop", "assistant", None)
    assert answer.usage.prompt_tokens == rule_tokens(["Grüße", "hello 🙂"], messages=2)
    assert answer.usage.completion_tokens == len(choice.message.content.split(" "))
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    r = only(ctl.log())
    assert (r["key"], r["model"], r["operation"], r["ended"]) == ("sk-sim-1", "m", "chat", "answered")
    assert (r["prompt_tokens"], r["completion_tokens"]) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)


def test_openai_sdk_reads_a_streamed_chat_with_usage(client):
    stream = client.chat.completions.create(**HELLO, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    whole = client.chat.completions.create(**HELLO, stream=False)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], len(text.split(" ")))
    assert all(c.usage is None for c in chunks[:-1])
    assert whole.choices[0].message.content


def test_a_stream_has_no_usage_unless_asked(client):
    assert all(c.usage is None for c in client.chat.completions.create(**HELLO, stream=True))


def test_max_tokens_bounds_the_answer_and_says_so(client):
    for name in ("max_tokens", "max_completion_tokens"):
        answer = client.chat.completions.create(**HELLO, **{name: 3})
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage.completion_tokens == 3 == len(answer.choices[0].message.content.split(" "))


def test_n_choices_are_n_texts_in_both_forms(client):
    whole = client.chat.completions.create(**HELLO, n=3, max_tokens=4)
    assert [c.index for c in whole.choices] == [0, 1, 2] and whole.usage.completion_tokens == 12
    assert len({c.message.content for c in whole.choices}) == 3
    texts = {}
    for chunk in client.chat.completions.create(**HELLO, n=3, max_tokens=4, stream=True):
        for c in chunk.choices:
            texts[c.index] = texts.get(c.index, "") + (c.delta.content or "")
    assert all(len(t.split(" ")) == 4 for t in texts.values()) and len(texts) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_openai_sdk_reads_tool_calls(client, stream):
    ask = dict(HELLO, tools=TOOLS, tool_choice="required")
    if stream:
        name, arguments, finish = "", "", None
        for chunk in client.chat.completions.create(**ask, stream=True):
            for call in chunk.choices[0].delta.tool_calls or []:
                name += call.function.name or ""
                arguments += call.function.arguments or ""
            finish = chunk.choices[0].finish_reason or finish
    else:
        answer = client.chat.completions.create(**ask)
        call = answer.choices[0].message.tool_calls[0]
        name, arguments, finish = call.function.name, call.function.arguments, answer.choices[0].finish_reason
        assert answer.usage.completion_tokens == math.ceil(len(arguments) / 4)
        assert answer.usage.prompt_tokens == rule_tokens(["hello"], messages=1, tools=1)
    got = json.loads(arguments)
    assert (name, finish, got["unit"]) == ("get_weather", "tool_calls", "C")
    assert isinstance(got["city"], str) and isinstance(got["days"], int)


def test_a_marker_calls_a_tool_and_its_result_is_answered_with_text(client):
    messages = [{"role": "user", "content": "please [[tool]]"}]
    first = client.chat.completions.create(model="m", messages=messages, tools=TOOLS).choices[0]
    assert first.finish_reason == "tool_calls"
    call = first.message.tool_calls[0]
    messages += [first.message, {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}]
    second = client.chat.completions.create(model="m", messages=messages, tools=TOOLS).choices[0]
    assert second.finish_reason == "stop" and second.message.content


def test_vision_content_is_accepted_and_counted(client):
    parts = [
        {"type": "text", "text": "what is this"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}},
    ]
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": parts}])
    assert answer.usage.prompt_tokens == rule_tokens(["what is this"], messages=1, files=1)


def test_markers_echo_text_and_choose_the_length(client):
    text = 'Grüße, "日本" 🙂\n\tend'
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "[[echo]]" + text}])
    assert answer.choices[0].message.content == text
    assert answer.usage.completion_tokens == math.ceil(len(text.encode()) / 4)
    streamed = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "[[echo]]" + text}], stream=True
    )
    assert "".join(c.choices[0].delta.content or "" for c in streamed) == text
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "[[tokens=333]]"}])
    assert answer.usage.completion_tokens == 333


def test_json_mode_answers_with_json(client):
    answer = client.chat.completions.create(**HELLO, response_format={"type": "json_object"})
    assert list(json.loads(answer.choices[0].message.content)) == ["answer"]
    text = "".join(
        c.choices[0].delta.content or ""
        for c in client.chat.completions.create(**HELLO, response_format={"type": "json_object"}, stream=True)
    )
    assert len(json.loads(text)["answer"]) > 0


def test_openai_sdk_reads_text_completions(client):
    answer = client.completions.create(model="m", prompt=["a", "b"], max_tokens=5)
    assert [c.finish_reason for c in answer.choices] == ["length", "length"]
    assert answer.usage.completion_tokens == 10
    text = "".join(c.choices[0].text for c in client.completions.create(model="m", prompt="a", stream=True) if c.choices)
    assert text


def test_openai_sdk_reads_embeddings_and_they_depend_on_the_text_alone(client, ctl):
    both = client.embeddings.create(model="e", input=["alpha", "beta"], dimensions=8)
    one = client.embeddings.create(model="e", input="alpha", dimensions=8, encoding_format="float")
    assert len(both.data) == 2 and len(both.data[0].embedding) == 8
    assert both.data[0].embedding == pytest.approx(one.data[0].embedding, abs=1e-6)
    assert both.data[0].embedding != both.data[1].embedding
    assert sum(x * x for x in one.data[0].embedding) == pytest.approx(1.0, abs=1e-5)
    assert both.usage.prompt_tokens == rule_tokens(["alpha", "beta"])
    assert client.embeddings.create(model="e", input=[[1, 2, 3], [4]]).usage.total_tokens == 4
    assert ctl.totals(operation="embeddings")["output"] == 0


def test_openai_sdk_reads_models(client, ctl):
    assert "sim-chat" in [m.id for m in client.models.list()]
    ctl.patch("p", models=["a/b", "c"], strict_models=True)
    assert [m.id for m in client.models.list()] == ["a/b", "c"]
    assert client.models.retrieve("c").id == "c"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**HELLO)
    assert ctl.truth()["posts"] == 1  # a GET is no POST


def test_openai_sdk_reads_responses(client):
    answer = client.responses.create(model="m", input="hello", instructions="be brief", max_output_tokens=6)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.usage.input_tokens == rule_tokens(["hello", "be brief"], messages=2)
    assert answer.usage.output_tokens == 6 == len(answer.output_text.split(" "))
    call = client.responses.create(
        model="m", input="hello", tool_choice="required",
        tools=[{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "boolean"}}}}],
    ).output[0]
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "f", {"x": True})


def test_openai_sdk_reads_the_event_sequence_of_responses(client, ctl):
    ctl.profile("p", chunk_tokens=4)
    events = list(client.responses.create(model="m", input="hello", stream=True))
    kinds = [e.type for e in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert [e.sequence_number for e in events] == list(range(len(events)))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == events[-1].response.output_text == events[-4].text
    with client.responses.stream(model="m", input="hello") as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().status == "completed"


def test_openai_sdk_reads_images_speech_and_transcriptions(client, ctl):
    images = client.images.generate(model="sim-image", prompt="a cat", n=2)
    assert [bool(d.b64_json) for d in images.data] == [True, True]
    tokens = client.images.generate(model="gpt-image-1", prompt="a cat")
    assert tokens.usage.output_tokens == 272
    sound = client.audio.speech.create(model="sim-speech", voice="alloy", input="hello there").content
    assert sound.startswith(b"ID3") and len(sound) >= 3 * 512
    audio = ("a.wav", io.BytesIO(os.urandom(5001)))
    heard = client.audio.transcriptions.create(model="whisper", file=audio)
    assert heard.text and heard.usage.input_tokens == 6
    plain = client.audio.transcriptions.create(model="whisper", file=("a.wav", b"x"), response_format="text")
    assert isinstance(plain, str) and plain
    events = list(client.audio.transcriptions.create(model="whisper", file=("a.wav", b"x"), stream=True))
    assert events[-1].text == "".join(e.delta for e in events[:-1])
    assert ctl.totals(operation="images")["images"] == 3
    assert {r["model"] for r in ctl.log() if r["operation"] == "transcription"} == {"whisper"}


def test_openai_sdk_reads_moderations_and_they_cost_nothing(client, ctl):
    verdicts = client.moderations.create(model="mod", input=["fine", "[[flag]]"]).results
    assert [v.flagged for v in verdicts] == [False, True]
    assert ctl.totals(operation="moderations")["input"] == 0


def test_rerank_sorts_by_score(sim):
    body = {"model": "r", "query": "q", "documents": ["a", "b", {"text": "c"}], "top_n": 2}
    answer = json.loads(post(sim, "/p/v1/rerank", body).body)
    scores = [r["relevance_score"] for r in answer["results"]]
    assert len(scores) == 2 and scores == sorted(scores, reverse=True)


OPENAI_ERRORS = {
    "400": openai.BadRequestError, "401": openai.AuthenticationError, "403": openai.PermissionDeniedError,
    "404": openai.NotFoundError, "422": openai.UnprocessableEntityError, "429": openai.RateLimitError,
    "500": openai.InternalServerError, "503": openai.InternalServerError, "529": openai.InternalServerError,
}


@pytest.mark.parametrize("fault", OPENAI_ERRORS)
def test_openai_sdk_raises_its_error_classes(client, ctl, fault):
    ctl.profile("p", script=[fault], retry_after_s=3)
    with pytest.raises(OPENAI_ERRORS[fault]) as e:
        client.chat.completions.create(**HELLO)
    assert e.value.status_code == int(fault) and e.value.body["message"]
    assert e.value.response.headers.get("retry-after") == ("3" if fault in ("429", "503", "529") else None)
    r = only(ctl.log())
    assert (r["ended"], r["status"], r["prompt_tokens"], r["completion_tokens"]) == (fault, int(fault), 0, 0)


# -- Anthropic's SDK


@pytest.fixture
def claude(sim):
    with anthropic.Anthropic(base_url=sim.control.url("p", version=""), api_key="sk-ant-1", max_retries=0) as c:
        yield c


def test_anthropic_sdk_reads_a_message(claude, ctl):
    ctl.profile("p", cached_share=0.5, cache_write_share=0.5)
    answer = claude.messages.create(**ASK, system=[{"type": "text", "text": "be brief and kind"}])
    u = answer.usage
    assert (answer.stop_reason, answer.content[0].type) == ("end_turn", "text")
    assert u.output_tokens == len(answer.content[0].text.split(" "))
    prompt = rule_tokens(["hello", "be brief and kind"], messages=2)
    assert u.input_tokens + u.cache_read_input_tokens + u.cache_creation_input_tokens == prompt
    assert (u.cache_read_input_tokens, u.cache_creation_input_tokens) == (prompt // 2, (prompt - prompt // 2) // 2)
    r = only(ctl.log())
    assert (r["key"], r["operation"], r["prompt_tokens"]) == ("sk-ant-1", "messages", prompt)
    assert (r["cached_tokens"], r["cache_write_tokens"]) == (u.cache_read_input_tokens, u.cache_creation_input_tokens)


def test_anthropic_sdk_reads_a_stream(claude):
    with claude.messages.stream(**ASK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert final.content[0].text == text and final.stop_reason == "end_turn"
    assert final.usage.output_tokens == len(text.split(" "))
    short = claude.messages.create(**{**ASK, "max_tokens": 2})
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 2)


def test_anthropic_sdk_reads_tool_use_in_both_forms(claude):
    tools = [{"name": "f", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]
    ask = dict(ASK, tools=tools, tool_choice={"type": "tool", "name": "f"})
    block = claude.messages.create(**ask).content[0]
    assert (block.type, block.name, list(block.input)) == ("tool_use", "f", ["city"])
    with claude.messages.stream(**ask) as stream:
        final = stream.get_final_message()
    assert final.content[0].input.keys() == {"city"} and final.stop_reason == "tool_use"


def test_anthropic_sdk_counts_tokens_for_free(claude, ctl):
    n = claude.messages.count_tokens(model="c", messages=ASK["messages"]).input_tokens
    assert n == rule_tokens(["hello"], messages=1)
    assert (ctl.totals()["posts"], ctl.totals()["input"]) == (1, 0)


def test_anthropic_sdk_lists_models(claude):
    assert "sim-chat" in [m.id for m in claude.models.list()]


@pytest.mark.parametrize(
    "fault,kind",
    [("401", anthropic.AuthenticationError), ("429", anthropic.RateLimitError), ("529", anthropic.APIStatusError),
     ("500", anthropic.InternalServerError)],
)
def test_anthropic_sdk_raises_its_error_classes(claude, ctl, fault, kind):
    ctl.profile("p", script=[fault])
    with pytest.raises(kind) as e:
        claude.messages.create(**ASK)
    assert e.value.status_code == int(fault) and e.value.body["type"] == "error"


def test_anthropic_sdk_raises_an_error_event_inside_a_stream(claude, ctl):
    ctl.profile("p", script=["error_event"])
    with pytest.raises(anthropic.APIStatusError):
        with claude.messages.stream(**ASK) as stream:
            stream.get_final_message()
    r = only(ctl.log())
    assert r["ended"] == "error_event" and r["prompt_tokens"] > 0 and r["completion_tokens"] > 0


# -- Gemini, by hand


def test_gemini_answers_whole_and_streamed_in_both_framings(sim, ctl):
    ctl.profile("p", reasoning_share=0.25, output_tokens=40)
    whole = json.loads(post(sim, "/p/v1beta/models/gemini-x:generateContent", GEMINI).body)
    usage = whole["usageMetadata"]
    text = whole["candidates"][0]["content"]["parts"][0]["text"]
    assert usage["promptTokenCount"] == rule_tokens(["hello", "brief"], messages=2, files=1)
    assert (usage["candidatesTokenCount"], usage["thoughtsTokenCount"]) == (30, 10)
    assert whole["candidates"][0]["finishReason"] == "STOP" and len(text.split(" ")) == 30
    sse = post(sim, "/p/v1beta/models/gemini-x:streamGenerateContent?alt=sse", GEMINI)
    events = [json.loads(d) for d in data_lines(sse.body)]
    array = json.loads(post(sim, "/p/v1beta/models/gemini-x:streamGenerateContent", GEMINI).body)
    for chunks in (events, array):
        parts = [c["candidates"][0]["content"]["parts"][0]["text"] for c in chunks]
        assert "".join(parts) == text
        assert [("finishReason" in c["candidates"][0]) for c in chunks] == [False] * (len(chunks) - 1) + [True]
        counted = {k: v for k, v in chunks[-1]["usageMetadata"].items() if k in usage}
        assert counted == usage
    assert {(r["model"], r["operation"], r["completion_tokens"], r["reasoning_tokens"]) for r in ctl.log()} == {
        ("gemini-x", "generate", 40, 10)
    }


def test_gemini_calls_functions(sim):
    body = dict(
        GEMINI,
        tools=[{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}}}]}],
        toolConfig={"functionCallingConfig": {"mode": "ANY"}},
    )
    part = json.loads(post(sim, "/p/v1beta/models/g:generateContent", body).body)["candidates"][0]["content"]["parts"][0]
    assert part["functionCall"]["name"] == "f" and isinstance(part["functionCall"]["args"]["a"], int)
    events = [json.loads(d) for d in data_lines(post(sim, "/p/v1beta/models/g:streamGenerateContent?alt=sse", body).body)]
    calls = [p for e in events for p in e["candidates"][0]["content"]["parts"] if "functionCall" in p]
    assert [c["functionCall"]["name"] for c in calls] == ["f"]
