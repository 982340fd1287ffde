#!/usr/bin/env python3
"""The official OpenAI client against a running llama3-server: openai_client.py URL [KEY [thoughts]].

thoughts: those of a model whose template ends with "<think>\\n", closes it at once if enable_thinking is
false, and writes earlier thoughts.
"""
import enum
import json
import re
import sys
import threading

import openai
import pydantic

url = sys.argv[1]
key = sys.argv[2] if len(sys.argv) > 2 else "none"
client = openai.OpenAI(base_url=url + "/v1", api_key=key, max_retries=2, timeout=300)
question = [{"role": "user", "content": "What is the capital of France?"}]


def ask(**fields):
    fields = {"model": "any", "messages": question, "temperature": 0, "max_tokens": 24} | fields
    return client.chat.completions.create(**fields)


class Country(str, enum.Enum):
    FRANCE = "France"
    ITALY = "Italy"


class City(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=20)
    country: Country
    inhabitants: int = pydantic.Field(ge=0, le=99_999_999)
    districts: list[str] = pydantic.Field(max_length=3)
    is_capital: bool
    note: str | None


def forms():
    """Answers of a form: parsed by the client, and by each field that asks for one."""
    fields = {"model": "any", "messages": question, "temperature": 0, "max_tokens": 600}
    answer = client.chat.completions.parse(response_format=City, **fields)
    city = answer.choices[0].message.parsed
    assert answer.choices[0].finish_reason == "stop" and isinstance(city, City), answer
    with client.chat.completions.stream(response_format=City, **fields) as stream:
        pieces = [event.delta for event in stream if event.type == "content.delta"]
        assert "".join(pieces) == answer.choices[0].message.content
        assert stream.get_final_completion().choices[0].message.parsed == city
    cut = ask(response_format={"type": "json_object"}, max_tokens=2).choices[0]
    assert cut.finish_reason == "length"
    for extra, expected in (
            ({"guided_json": City.model_json_schema()}, None),
            ({"json_schema": City.model_json_schema()}, None),
            ({"structured_outputs": {"json": City.model_json_schema()}}, None),
            ({"guided_regex": "[0-9]{4}-[0-9]{2}"}, "[0-9]{4}-[0-9]{2}"),
            ({"structured_outputs": {"regex": "[a-c]{3}"}}, "[a-c]{3}"),
            ({"guided_choice": ["Paris", "Rome"]}, "Paris|Rome"),
            ({"structured_outputs": {"choice": ["Paris", "Rome"]}}, "Paris|Rome"),
            ({"grammar": 'root ::= ("a" | "b"){2} "."'}, "[ab]{2}\\."),
            ({"guided_grammar": 'start: WORD "!"\nWORD: /[a-z]{2,5}/'}, "[a-z]{2,5}!"),
            ({"structured_outputs": {"grammar": 'root ::= "x" [0-9]'}}, "x[0-9]")):
        for _ in range(2):  # compiled, and found compiled
            text = ask(extra_body=extra, max_tokens=600).choices[0].message.content
            assert re.fullmatch(expected, text) if expected else City.model_validate_json(text), text
        text = client.completions.create(model="any", prompt="Paris", max_tokens=600, extra_body=extra,
                                         n=2).choices[1].text
        assert re.fullmatch(expected, text) if expected else City.model_validate_json(text), text
    assert isinstance(json.loads(ask(response_format={"type": "json_object"}, max_tokens=2000).choices[0]
                                 .message.content), dict)


def models():
    listed = client.models.list().data
    assert len(listed) == 1 and listed[0].object == "model"
    assert client.models.retrieve(listed[0].id).id == listed[0].id
    return listed[0].id


def chat(model):
    answer = ask()
    assert answer.model == model and answer.object == "chat.completion"
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    again = ask()
    assert again.choices[0].message.content == choice.message.content
    assert again.usage.prompt_tokens_details.cached_tokens >= (usage.prompt_tokens - 1) // 64 * 64
    return choice.message.content


def streaming(text):
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(c.choices[0].finish_reason is None for c in chunks[:-2])
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == text
    assert len({c.id for c in chunks}) == 1
    with ask(stream=True, max_tokens=200) as stream:  # left in the middle
        next(iter(stream))


def logprobs():
    choice = ask(logprobs=True, top_logprobs=3, max_tokens=5).choices[0]
    for token in choice.logprobs.content:
        assert len(token.top_logprobs) == 3
        assert token.logprob <= 0 and token.token == token.top_logprobs[0].token
        assert token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob
    text = b"".join(bytes(t.bytes) for t in choice.logprobs.content).decode("utf-8", "replace")
    assert text == choice.message.content, (text, choice.message.content)
    streamed = [t for c in ask(logprobs=True, max_tokens=5, stream=True)
                if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert [t.logprob for t in streamed] == [t.logprob for t in choice.logprobs.content]


def stops(text):
    word = text[3:5]
    answer = ask(stop=["never said", word]).choices[0]
    assert answer.message.content == text[:text.index(word)] and answer.finish_reason == "stop"
    assert ask(max_tokens=1).choices[0].finish_reason in ("length", "stop")


def seeds():
    def free(**fields):
        return [c.message.content for c in ask(temperature=1.5, top_p=1, **fields).choices]
    assert free(seed=7) == free(seed=7) and free(seed=7) != free(seed=8)
    assert free(seed=7, n=3) == free(seed=7) + free(seed=8) + free(seed=9)
    assert free() != free()


def completions():
    answer = client.completions.create(model="any", prompt="The capital of France is",
                                       max_tokens=5, temperature=0, logprobs=2)
    assert len(answer.choices[0].logprobs.tokens) == answer.usage.completion_tokens
    text = "".join(c.choices[0].text for c in client.completions.create(
        model="any", prompt="The capital of France is", max_tokens=5, temperature=0, stream=True))
    assert text == answer.choices[0].text


def refused(kind, **fields):
    try:
        ask(**fields)
    except kind as error:
        return error
    raise AssertionError(f"{fields}: expected {kind.__name__}")


def errors():
    error = refused(openai.BadRequestError, temperature=-1)
    assert error.param == "temperature" and error.type == "invalid_request_error"
    error = refused(openai.BadRequestError, messages=[{"role": "user", "content": "word " * 50000}])
    assert error.code == "context_length_exceeded"
    schema = {"type": "object", "properties": {"when": {"type": "string", "pattern": "(?=a)b"}}}
    error = refused(openai.BadRequestError, response_format={
        "type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    assert error.param == "response_format" and "/properties/when" in error.message, error
    try:
        client.models.retrieve("other")
        raise AssertionError("a model that isn't there was found")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found"
    if key != "none":
        try:
            client.with_options(api_key="wrong").models.list()
            raise AssertionError("a wrong key was taken")
        except openai.AuthenticationError:
            pass


def retries():
    """More than the queue holds: those that are refused come again, and all are answered."""
    patient = client.with_options(max_retries=50)
    failures = []

    def one():
        try:
            patient.chat.completions.create(model="any", messages=question, max_tokens=2)
        except openai.OpenAIError as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(120)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]


def thoughts():
    message = ask().choices[0].message
    assert message.content == "" and message.reasoning_content, message
    assert message.reasoning == message.reasoning_content
    deltas = [chunk.choices[0].delta for chunk in ask(stream=True)]
    for name in ("reasoning_content", "reasoning"):
        assert "".join(getattr(delta, name, "") for delta in deltas) == message.reasoning_content
    assert not any(delta.content for delta in deltas)
    plain = ask(extra_body={"chat_template_kwargs": {"enable_thinking": False}}).choices[0].message
    assert plain.content and not hasattr(plain, "reasoning_content"), plain

    def prompt(**fields):
        earlier = [*question, {"role": "assistant", "content": "Paris."} | fields, *question]
        return ask(messages=earlier, max_tokens=1).usage.prompt_tokens
    assert prompt() < prompt(reasoning_content="so it is") == prompt(reasoning="so it is")


if sys.argv[3:] == ["thoughts"]:
    thoughts()
    print("the openai client", openai.__version__, "finds nothing wrong with thoughts")
    sys.exit()
model = models()
text = chat(model)
streaming(text)
logprobs()
stops(text)
seeds()
completions()
forms()
errors()
retries()
print("the openai client", openai.__version__, "finds nothing wrong")
