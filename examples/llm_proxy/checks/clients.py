"""litellm and dspy against the proxy, once each: python clients.py PATH-OF-THE-PROXY"""

import os
import sys

# It would ask the network for prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import dspy
import litellm

from proxy import proxy

litellm.suppress_debug_info = True

ASKED = [{"role": "user", "content": "how do rivers find the sea?"}]


def main(binary):
    with proxy(binary) as up:
        openai = {"api_base": f"{up.url}/v1", "api_key": "sk-check", "max_tokens": 5}
        anthropic = {**openai, "api_base": up.url}
        for model, where in (("openai/tiny", openai), ("anthropic/tiny", anthropic)):
            whole = litellm.completion(model=model, messages=ASKED, **where)
            assert whole.usage.completion_tokens == 5, whole
            chunks = litellm.completion(model=model, messages=ASKED, stream=True, **where)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert text == whole.choices[0].message.content, text
            print("ok litellm", model)
        up.control(faults={"refuse": 1.0, "refuse_status": 429})
        try:
            litellm.completion(model="openai/tiny", messages=ASKED, max_retries=0, **openai)
        except litellm.RateLimitError:
            print("ok litellm is refused")
        else:
            raise AssertionError("it was not refused")
        up.control(faults={})
        answer = dspy.LM("openai/tiny", cache=False, **openai)(ASKED[0]["content"])
        assert answer and answer[0], answer
        print("ok dspy")


if __name__ == "__main__":
    main(sys.argv[1])
