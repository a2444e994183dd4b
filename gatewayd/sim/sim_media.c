/* SPDX-License-Identifier: Apache-2.0 */
/* Images, speech and transcriptions. Pictures and sound are placeholders of a plausible size. */
#include "gatewayd/sim/sim_ops.h"

#include <stdlib.h>

/* ---- images ---- */

#define IMAGE_TOKENS 272u /* per picture, where a model bills pictures in tokens */

/* One transparent pixel. */
static const char PNG[] =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

static bool bills_tokens(const struct sim_ask *a)
{
    return a->model && strncmp(a->model, "gpt-image", 9) == 0;
}

static const char *decode_images(struct sim_ask *a, const struct sim_request *rq)
{
    if (rq->m.prompt.type != JSON_STRING)
        return "prompt must be a string";
    a->bill.images = a->choices;
    a->choices = 0;
    if (bills_tokens(a)) {
        sim_ask_count(a, rq->m.prompt, false);
        a->extra_output = IMAGE_TOKENS * a->bill.images;
    }
    return NULL;
}

static void whole_images(const struct sim_ask *a, const struct sim_request *rq, struct buf *out)
{
    bool is_url = span_is(json_str_raw(rq->m.response_format), "url");

    buf_addf(out, "{\"created\":%lld,\"data\":[", (long long)a->created);
    for (unsigned i = 0; i < a->bill.images; i++) {
        buf_addz(out, i ? ",{" : "{");
        if (is_url)
            buf_addf(out, "\"url\":\"https://images.invalid/%016llx/%u.png\"}", (unsigned long long)a->id, i);
        else
            buf_addf(out, "\"b64_json\":\"%s\"}", PNG);
    }
    buf_addc(out, ']');
    if (bills_tokens(a))
        buf_addf(out,
                 ",\"usage\":{\"input_tokens\":%u,\"output_tokens\":%u,\"total_tokens\":%u,"
                 "\"input_tokens_details\":{\"text_tokens\":%u,\"image_tokens\":0}}",
                 a->bill.input, a->bill.output, a->bill.input + a->bill.output, a->bill.input);
    buf_addc(out, '}');
}

const struct sim_op sim_op_images = {
    .path = "/images/generations", .name = "images", .decode = decode_images, .whole = whole_images};

/* ---- speech ---- */

#define SPEECH_BYTES_PER_TOKEN 512u

static const struct {
    const char *format, *content_type, *magic;
} SOUNDS[] = {
    {"mp3", "audio/mpeg", "ID3"}, {"wav", "audio/wav", "RIFF"},   {"opus", "audio/ogg", "OggS"},
    {"aac", "audio/aac", ""},     {"flac", "audio/flac", "fLaC"}, {"pcm", "audio/pcm", ""},
};

static size_t sound_of(const struct sim_request *rq)
{
    struct span format = json_str_raw(rq->m.response_format);

    for (size_t i = 0; i < ARRAY_LEN(SOUNDS); i++)
        if (span_is(format, SOUNDS[i].format))
            return i;
    return 0;
}

static const char *decode_speech(struct sim_ask *a, const struct sim_request *rq)
{
    if (rq->m.input.type != JSON_STRING)
        return "input must be a string";
    sim_ask_count(a, rq->m.input, false);
    a->choices = 0;
    a->content_type = SOUNDS[sound_of(rq)].content_type;
    return NULL;
}

static void whole_speech(const struct sim_ask *a, const struct sim_request *rq, struct buf *out)
{
    size_t n = (size_t)a->bill.input * SPEECH_BYTES_PER_TOKEN;

    buf_addz(out, SOUNDS[sound_of(rq)].magic);
    for (size_t i = 0; out->len < n; i++) {
        uint64_t noise = sim_mix(a->id, i);

        buf_add(out, span_make(&noise, sizeof(noise)));
    }
}

const struct sim_op sim_op_speech = {
    .path = "/audio/speech", .name = "speech", .decode = decode_speech, .whole = whole_speech};

/* ---- transcriptions ---- */

#define AUDIO_BYTES_PER_TOKEN 1000u

struct form { /* what a multipart body says */
    struct span model, response_format, stream;
    size_t file_bytes;
    bool has_file;
};

static struct span parameter(struct span header, const char *name)
{
    size_t n = strlen(name);
    const char *at = header.len ? memmem(header.p, header.len, name, n) : NULL;
    struct span v;

    if (!at)
        return (struct span){0};
    v = span_make(at + n, header.len - (size_t)(at - header.p) - n);
    if (v.len && *v.p == '"') {
        v = span_make(v.p + 1, v.len - 1);
        return span_split(&v, '"');
    }
    for (n = 0; n < v.len && v.p[n] != ';' && v.p[n] != '\r' && v.p[n] != ' '; n++)
        ;
    v.len = n;
    return v;
}

static void take_part(struct form *f, struct span part)
{
    const char *blank = memmem(part.p, part.len, "\r\n\r\n", 4);
    struct span head, value, name;

    if (!blank)
        return;
    head = span_make(part.p, (size_t)(blank - part.p));
    value = span_make(blank + 4, part.len - head.len - 4);
    if (value.len >= 2) /* the line end belongs to the next boundary */
        value.len -= 2;
    name = parameter(head, " name=");
    if (span_is(name, "model"))
        f->model = value;
    else if (span_is(name, "response_format"))
        f->response_format = value;
    else if (span_is(name, "stream"))
        f->stream = value;
    else if (span_is(name, "file")) {
        f->file_bytes = value.len;
        f->has_file = true;
    }
}

static struct form read_form(const struct sim_request *rq)
{
    struct span boundary = parameter(sim_head_get(rq->head, "content-type"), "boundary=");
    struct form f = {0};
    struct span rest = rq->body;
    char mark[80];
    size_t n;
    const char *at, *next;

    if (!boundary.len || boundary.len > 70)
        return f;
    mark[0] = mark[1] = '-';
    n = 2 + span_copy(mark + 2, sizeof(mark) - 2, boundary);
    at = rest.len ? memmem(rest.p, rest.len, mark, n) : NULL;
    while (at) {
        rest = span_make(at + n, rest.len - (size_t)(at - rest.p) - n);
        next = memmem(rest.p, rest.len, mark, n);
        if (next)
            take_part(&f, span_make(rest.p, (size_t)(next - rest.p)));
        at = next;
    }
    return f;
}

static const char *decode_transcription(struct sim_ask *a, const struct sim_request *rq)
{
    struct form f = read_form(rq);

    if (!f.has_file)
        return "a file is required, as multipart/form-data";
    if (f.model.p)
        a->model = strndup(f.model.p, f.model.len);
    a->is_stream = span_is(f.stream, "true");
    if (span_is(f.response_format, "text"))
        a->content_type = "text/plain; charset=utf-8";
    a->bill.input = (unsigned)((f.file_bytes + AUDIO_BYTES_PER_TOKEN - 1) / AUDIO_BYTES_PER_TOKEN);
    return NULL;
}

static void add_transcript_tail(const struct sim_ask *a, struct buf *out)
{
    buf_addz(out, "\"text\":\"");
    sim_text_add_json(&a->text, 0, 0, a->visible, out);
    buf_addf(out,
             "\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":%u,\"output_tokens\":%u,\"total_tokens\":%u,"
             "\"input_token_details\":{\"audio_tokens\":%u,\"text_tokens\":0}}}",
             a->bill.input, a->bill.output, a->bill.input + a->bill.output, a->bill.input);
}

static void whole_transcription(const struct sim_ask *a, const struct sim_request *rq, struct buf *out)
{
    if (a->content_type) {
        sim_text_add(&a->text, 0, 0, a->visible, out);
        return;
    }
    buf_addc(out, '{');
    if (span_is(read_form(rq).response_format, "verbose_json"))
        buf_addf(out, "\"task\":\"transcribe\",\"language\":\"english\",\"duration\":%u.0,\"segments\":[],",
                 a->bill.input / 10 + 1);
    add_transcript_tail(a, out);
}

static void transcript_piece(const struct sim_ask *a, unsigned c, unsigned from, unsigned to, struct buf *out)
{
    sim_event(out, NULL);
    buf_addz(out, "{\"type\":\"transcript.text.delta\",\"delta\":\"");
    sim_text_add_json(&a->text, c, from, to, out);
    buf_addz(out, "\"}\n\n");
}

static void transcript_done(const struct sim_ask *a, struct buf *out)
{
    sim_event(out, NULL);
    buf_addz(out, "{\"type\":\"transcript.text.done\",");
    add_transcript_tail(a, out);
    buf_addz(out, "\n\n");
}

static const struct sim_stream_ops TRANSCRIPT_STREAM = {.piece = transcript_piece, .done = transcript_done};

const struct sim_op sim_op_transcription = {.path = "/audio/transcriptions",
                                            .name = "transcription",
                                            .is_multipart = true,
                                            .decode = decode_transcription,
                                            .whole = whole_transcription,
                                            .stream = &TRANSCRIPT_STREAM};
