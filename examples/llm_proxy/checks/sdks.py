"""The genuine SDKs of OpenAI and Anthropic against the proxy: python sdks.py PATH-OF-THE-PROXY"""

import sys
import threading

import anthropic
import openai

from proxy import proxy

ASKED = [{"role": "user", "content": "how do rivers find the sea?"}]


def sdks(url, retries, key="sk-check"):
    return (
        openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=retries, timeout=20),
        anthropic.Anthropic(base_url=url, api_key=key, max_retries=retries, timeout=20),
    )


def of_openai(client, tokens=5, **more):
    return client.chat.completions.create(model="tiny", messages=ASKED, max_tokens=tokens, **more)


def of_anthropic(client, tokens=5, **more):
    return client.messages.create(model="tiny", messages=ASKED, max_tokens=tokens, **more)


def answers(up):
    theirs, others = sdks(up.url, 0)
    assert [model.id for model in theirs.models.list()] == ["tiny"]
    whole = of_openai(theirs)
    assert whole.choices[0].message.content and whole.usage.completion_tokens == 5, whole
    chunks = list(of_openai(theirs, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content, text
    assert all(chunk.choices for chunk in chunks), "usage was not asked for, and is not to be seen"
    chunks = list(of_openai(theirs, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == 5, chunks[-1]

    whole = of_anthropic(others)
    assert whole.content[0].text and whole.usage.output_tokens == 5, whole
    with others.messages.stream(model="tiny", messages=ASKED, max_tokens=5) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
        assert stream.get_final_message().usage.output_tokens == 5


def retries(up):
    """Refused, told when to come back, answered when it does."""
    theirs, others = sdks(up.url, 2)
    for ask in (lambda: of_openai(theirs, stream=True), lambda: of_anthropic(others, stream=True)):
        before = up.metric("backpressure_llm_requests_total", retry="1")
        # The model says 200 first, and then that it is overloaded: what no SDK retries by itself.
        up.control(faults={"error_event": 1.0})
        threading.Timer(0.3, lambda: up.control(faults={})).start()
        assert len(list(ask())) >= 5
        assert up.metric("backpressure_llm_requests_total", retry="1") > before, "it did not try again"


def abort(up):
    theirs, others = sdks(up.url, 0)
    for ask in (of_openai, of_anthropic):
        client = theirs if ask is of_openai else others
        stream = ask(client, 16000, stream=True, extra_body={"ignore_eos": True})
        for _ in zip(range(8), stream):
            pass
        up.until(lambda live: live["engine"]["running"] == 1, "running")
        stream.close()
        up.until(lambda live: live["engine"]["running"] == live["gate"]["in_flight"] == 0, "stopped")


def refused(ask, client, error, status, kind):
    try:
        ask(client)
    except error as refusal:
        assert type(refusal) is error, type(refusal)
        assert refusal.status_code == status, refusal.status_code
        said = refusal.body["error"] if "error" in refusal.body else refusal.body
        assert said["type"] == kind and said["message"], refusal.body
        headers = refusal.response.headers
        assert 1 <= int(headers["retry-after"]) <= 60 and int(headers["retry-after-ms"]) >= 1, headers
        assert headers["x-request-id"] == headers["request-id"]
    else:
        raise AssertionError(f"{ask.__name__} was not refused")


def refusals(binary):
    overloaded = anthropic._exceptions.OverloadedError
    # One answer at a time.
    with proxy(binary, "--initial", "1") as up:
        theirs, others = sdks(up.url, 0)
        with of_openai(theirs, 16000, stream=True, extra_body={"ignore_eos": True}) as stream:
            next(iter(stream))
            refused(of_openai, theirs, openai.InternalServerError, 503, "server_error")
            refused(of_anthropic, others, overloaded, 529, "overloaded_error")
    # A tenant that has used what it may.
    with proxy(binary, "--budget", "60") as up:
        theirs, _ = sdks(up.url, 0, "sk-one")
        _, others = sdks(up.url, 0, "sk-other")
        of_openai(theirs, 40, extra_body={"ignore_eos": True})
        refused(lambda client: of_openai(client, 40), theirs, openai.RateLimitError, 429, "rate_limit_error")
        of_anthropic(others, 40, extra_body={"ignore_eos": True})
        refused(lambda client: of_anthropic(client, 40), others, anthropic.RateLimitError, 429, "rate_limit_error")


def main(binary):
    with proxy(binary) as up:
        for check in (answers, retries, abort):
            check(up)
            print("ok", check.__name__)
    refusals(binary)
    print("ok refusals")


if __name__ == "__main__":
    main(sys.argv[1])
