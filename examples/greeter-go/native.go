package main

// As a shared library the greeter is the table in native.c, whose `call` is greeterCall below.
// `import "C"` keeps both files out of a build without cgo.

// #cgo CFLAGS: -std=c11 -I${SRCDIR}/../../crates/jackfield-plugin/include
// #include "jackfield.h"
//
// static inline int32_t sink_write(const jf_sink *sink, const char *data, size_t len) {
//     jf_str bytes = {data, len};
//     return sink->write(sink->context, bytes);
// }
import "C"

import "unsafe"

// greeterCall copies: what C lent is C's again when it returns, and C keeps nothing of ours.
//
//export greeterCall
func greeterCall(lent *C.jf_call, sink *C.jf_sink) C.jf_status {
	function := C.GoStringN(lent.function.data, C.int(lent.function.len))
	arguments := unsafe.Slice((*byte)(unsafe.Pointer(lent.arguments.data)), int(lent.arguments.len))
	answer, ended := call(function, arguments)
	if len(answer) > 0 && C.sink_write(sink, (*C.char)(unsafe.Pointer(&answer[0])), C.size_t(len(answer))) != 0 {
		return C.JF_ANSWER_TOO_LARGE
	}
	return C.jf_status(ended)
}
