"""Calls plugins in the reference runtime of Extism, by its C interface.

Usage: reference.py LIBRARY; reads one JSON array [wasm file, function, input] a line, answers each with one line:
["ok", output] or ["error", text].
"""

import ctypes
import json
import sys

library = ctypes.CDLL(sys.argv[1])
library.extism_plugin_new.restype = ctypes.c_void_p
library.extism_plugin_new.argtypes = [
    ctypes.c_char_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_bool, ctypes.POINTER(ctypes.c_char_p),
]
library.extism_plugin_call.restype = ctypes.c_int32
library.extism_plugin_call.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint64]
library.extism_plugin_error.restype = ctypes.c_char_p
library.extism_plugin_error.argtypes = [ctypes.c_void_p]
library.extism_plugin_output_length.restype = ctypes.c_uint64
library.extism_plugin_output_length.argtypes = [ctypes.c_void_p]
library.extism_plugin_output_data.restype = ctypes.POINTER(ctypes.c_uint8)
library.extism_plugin_output_data.argtypes = [ctypes.c_void_p]

plugins = {}


def plugin(file):
    if file not in plugins:
        wasm = open(file, "rb").read()
        error = ctypes.c_char_p()
        loaded = library.extism_plugin_new(wasm, len(wasm), None, 0, True, ctypes.byref(error))
        if not loaded:
            raise SystemExit(f"{file}: {error.value.decode()}")
        plugins[file] = loaded
    return plugins[file]


for line in sys.stdin:
    file, function, text = json.loads(line)
    data = text.encode()
    code = library.extism_plugin_call(plugin(file), function.encode(), data, len(data))
    if code == 0:
        length = library.extism_plugin_output_length(plugin(file))
        output = ctypes.string_at(library.extism_plugin_output_data(plugin(file)), length)
        answer = ["ok", output.decode()]
    else:
        answer = ["error", (library.extism_plugin_error(plugin(file)) or b"").decode()]
    print(json.dumps(answer), flush=True)
