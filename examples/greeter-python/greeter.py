#!/usr/bin/env python3
"""A Jackfield plugin without an SDK: one JSON message a line, in on stdin, out on stdout."""
import json
import sys

out, sys.stdout = sys.stdout, sys.stderr  # stdout is the host's: a stray print() goes to its log

HELLO = {
    "protocol": "1.0",
    "plugin": {"name": "greeter-python", "version": "1.0.0"},
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


METHODS = {
    "jackfield/hello": lambda params: {"result": HELLO},
    "jackfield/ping": lambda params: {"result": None},
    "greeter.greet": greet,
}

for line in sys.stdin.buffer:  # bytes, for JSON is UTF-8 whatever the locale says
    message = json.loads(line)
    if message["method"] == "jackfield/shutdown":
        break
    if "id" in message:  # a message without an id wants no answer
        method = METHODS.get(message["method"], lambda params: failed(-32601, "no such method"))
        answer = {"id": message["id"], **method(message.get("params", {}))}
        print(json.dumps(answer), file=out, flush=True)
