"""A greeter in Python, as a WebAssembly component.

componentize-py reads ../greeter-api/wit, makes the package `wit_world` of it, and looks here for a class
for each exported interface. An own error is raised as `Err`, with a value of its type `greet-error`.
"""

from componentize_py_types import Err
from wit_world.exports.greeter import GreetError_EmptyName, GreetError_TooLong

NAME_CHARACTERS_MAX = 100


class Greeter:
    def greet(self, name: str) -> str:
        if not name:
            raise Err(GreetError_EmptyName())
        if len(name) > NAME_CHARACTERS_MAX:
            raise Err(GreetError_TooLong(len(name)))
        return f"Hello, {name}!"
