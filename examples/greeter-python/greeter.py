#!/usr/bin/env python3
"""A Jackfield plugin without an SDK: one JSON message a line, in on stdin, out on stdout."""
import json
import os
import sys
import time

out, sys.stdout = sys.stdout, sys.stderr  # stdout is the host's: a stray print() goes to its log

HELLO = {
    "protocol": "1.0",
    "plugin": {"name": "greeter-python", "version": "1.0.0"},
    "features": ["spans"],
    "capabilities": ["greeting@1", "batch@2", "polite@1"],
    "interfaces": ["demo:greeter/greeter@1.0.0"],
}


def greet(params):
    if not isinstance(params, dict) or list(params) != ["name"] or not isinstance(params["name"], str):
        return failed(-32602, "`greet` wants one argument, `name`, a string")
    name = params["name"]
    if name == "":
        return failed(1, "the name is empty", {"tag": "empty-name"})
    if len(name) > 100:
        return failed(1, "the name is too long", {"tag": "too-long", "val": len(name)})
    return {"result": f"Hello, {name}!"}


def failed(code, message, data=None):
    return {"error": {"code": code, "message": message, "data": data}}


spans_wanted = False


def hello(params):
    global spans_wanted  # a host that exports them says so
    spans_wanted = "spans" in params.get("features", [])
    return {"result": HELLO}


def span(name, traceparent, begun, answer):
    """Sends the span of a call home, before its answer."""
    _, trace, parent, flags = traceparent.split("-")[:4]
    if int(flags, 16) & 1:  # it is recorded
        own = {"span": f"00-{trace}-{os.urandom(8).hex()}-01", "parent": parent, "name": name}
        if "error" in answer:
            own["error"] = "error" if answer["error"]["code"] > 0 else "refused"
        send({"method": "jackfield/span", "params": {**own, "start": begun, "end": time.time_ns()}})


def send(message):
    print(json.dumps(message), file=out, flush=True)


METHODS = {
    "jackfield/hello": hello,
    "jackfield/ping": lambda params: {"result": None},
    "greeter.greet": greet,
}

for line in sys.stdin.buffer:  # bytes, for JSON is UTF-8 whatever the locale says
    message = json.loads(line)
    if message["method"] == "jackfield/shutdown":
        break
    if "id" in message:  # a message without an id wants no answer
        begun = time.time_ns()
        method = METHODS.get(message["method"], lambda params: failed(-32601, "no such method"))
        answer = method(message.get("params", {}))
        traceparent = message.get("_meta", {}).get("traceparent")
        if spans_wanted and traceparent:
            span(message["method"], traceparent, begun, answer)
        send({"id": message["id"], **answer})
