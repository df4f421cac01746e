/*
 * jackfield.h: what crosses the border between a Jackfield host and a plugin that is a shared
 * library. C11 and C++11, no other file needed. `jackfield_protocol::native` is the same in Rust;
 * a test compares the two.
 *
 * A plugin exports two symbols, at the end of this file: `jackfield_header`, bytes that a host
 * reads before any code of the library runs, and `jackfield_register`, a function that says who
 * the plugin is and adds its interfaces. From then on the host calls the function `call` of each
 * interface. The smallest plugin:
 *
 *     #include "jackfield.h"
 *
 *     static int32_t call(void *state, const jf_call *call, const jf_sink *sink) {
 *         static const jf_str answer = JF_STR("\"pong\"");
 *         (void)state;
 *         if (!jf_str_is(call->function, "ping")) return JF_UNIMPLEMENTED;
 *         return sink->write(sink->context, answer) ? JF_ANSWER_TOO_LARGE : JF_OK;
 *     }
 *
 *     static const jf_about about = {
 *         sizeof(jf_about), 0, JF_STR("pinger"), JF_STR("1.0.0"), JF_STR("")};
 *     static const jf_interface pinger = {
 *         sizeof(jf_interface), JF_INTERFACE_ANY_THREAD,
 *         JF_STR("demo:ping/pinger@1.0.0"), JF_STR(""), NULL, call, NULL};
 *
 *     JF_DEFINE_HEADER("by hand");
 *
 *     int32_t jackfield_register(const jf_host *host, const jf_registry *registry) {
 *         int32_t refused = registry->about(registry->context, &about);
 *         (void)host;
 *         return refused ? refused : registry->add(registry->context, &pinger);
 *     }
 *
 * Rules that hold everywhere:
 *
 * - Threads. Every function has a tag that says where it may be called:
 *     [any-thread]          on any thread, by several at once
 *     [one-thread]          by one thread at a time, which need not be the same each time
 *     [register]            on the thread that runs `jackfield_register`, until that returns
 *     [thread of the call]  on the thread that runs `call`, until that returns
 * - Memory. Nobody frees what the other side allocated. What a pointer leads to belongs to who
 *   passed it, and is valid until the function it was passed to returns, unless the contract below
 *   says otherwise. What is valid is not changed by its owner either.
 * - Sizes. Each table starts with its `size`, in bytes, as the side that filled it was compiled.
 *   Tables only grow at their ends. All that stands in this file may be used without looking, as
 *   the host refuses a library of another ABI major; a member that a later minor adds exists only
 *   if JF_HAS says so. Members called `reserved` are 0.
 * - Nothing is thrown, and no `longjmp` goes, across the border: catch everything on your side.
 * - A library is never unloaded. Its threads need not have ended, its memory stays mapped.
 *
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 */
#ifndef JACKFIELD_H
#define JACKFIELD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
#define JF_STATIC_ASSERT(condition, text) static_assert(condition, text)
extern "C" {
#else
#define JF_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

/* Makes a symbol visible outside the library, also under -fvisibility=hidden. */
#if defined(_WIN32)
#define JF_EXPORT __declspec(dllexport)
#else
#define JF_EXPORT __attribute__((visibility("default")))
#endif

/* Version of this ABI. Different majors do not understand each other; a higher minor has longer
 * tables. docs/protocol.md lists what each version added. */
#define JF_ABI_MAJOR 1
#define JF_ABI_MINOR 1

/* Whether the table behind a pointer is long enough to have the member: JF_HAS(host, jf_host, log). */
#define JF_HAS(table, type, member) \
    ((table)->size >= offsetof(type, member) + sizeof(((type *)0)->member))

/* ---- Text ------------------------------------------------------------------------------------ */

/* Borrowed text or bytes, NOT terminated by a NUL. Text is UTF-8. */
typedef struct jf_str {
    /* First byte; may be null when `len` is 0. */
    const char *data;
    /* Length in bytes. */
    size_t len;
} jf_str;

/* Initializes a jf_str from a string literal: static const jf_str greet = JF_STR("greet"); */
#define JF_STR(literal) {"" literal, sizeof(literal) - 1}

/* Borrows a string that ends with a NUL. */
static inline jf_str jf_str_from(const char *terminated) {
    jf_str text;
    text.data = terminated;
    text.len = strlen(terminated);
    return text;
}

/* Whether the text is the same as a string that ends with a NUL. */
static inline int jf_str_is(jf_str text, const char *terminated) {
    size_t len = strlen(terminated);
    return text.len == len && (len == 0 || memcmp(text.data, terminated, len) == 0);
}

/* ---- The host's side ------------------------------------------------------------------------- */

/* How much a line of the log matters. */
typedef int32_t jf_level;
enum {
    JF_LOG_ERROR = 0, /* something failed */
    JF_LOG_WARN = 1,  /* something is odd */
    JF_LOG_INFO = 2,  /* something happened */
    JF_LOG_DEBUG = 3, /* for whoever looks for a mistake */
    JF_LOG_TRACE = 4  /* everything */
};

/* What the host lends to the library. The table is valid for as long as the process lives: keep
 * the pointer. */
typedef struct jf_host {
    /* sizeof(jf_host) in the host. */
    uint32_t size;
    /* The host's ABI; the major is ours, the minor may be lower or higher. */
    uint16_t abi_major;
    uint16_t abi_minor;
    /* The host's; pass it to the functions of this table. */
    void *context;
    /* [any-thread] Writes a line to the host's log, under the plugin's name. The text is UTF-8
     * without a line end; it is copied. Any other level counts as JF_LOG_INFO. Never null. */
    void (*log)(void *context, jf_level level, jf_str message);
    /* [any-thread] Since ABI 1.1, see JF_HAS. Takes a span home that is over: the JSON object that
     * docs/protocol.md describes under `jackfield/span`; it is copied. Only of a call whose
     * `traceparent` ends in an odd digit, and before that call returns. Null where nobody wants
     * spans. */
    void (*span)(void *context, jf_str json);
} jf_host;

/* How a call went: what `call` returns. Any other value breaks the protocol. */
typedef int32_t jf_status;
enum {
    JF_OK = 0,               /* the sink holds the value; in JSON, `null` where there is none */
    JF_OWN_ERROR = 1,        /* the sink holds the function's own error, encoded as values are */
    JF_UNIMPLEMENTED = 2,    /* no such function; the sink is not read */
    JF_BAD_ARGUMENTS = 3,    /* the arguments are not the function's; the sink says why, as text */
    JF_PANICKED = 4,         /* a panic or an exception was caught; the sink says which, as text */
    JF_ANSWER_TOO_LARGE = 5, /* `write` returned nonzero; the sink is not read */
    JF_FAILED = 6            /* anything else; the sink says why, as text */
};

/* Encodings of arguments and answers. docs/protocol.md describes both. */
enum {
    JF_ENCODING_JSON = 0,  /* canonical JSON */
    JF_ENCODING_BINARY = 1 /* only for an interface with JF_INTERFACE_BINARY */
};

#define JF_NO_INDEX UINT32_MAX
#define JF_NO_DEADLINE UINT64_MAX

/* One call. Everything in it belongs to the host and is valid until `call` returns. */
typedef struct jf_call {
    /* sizeof(jf_call) in the host. */
    uint32_t size;
    /* JF_ENCODING_…: of the arguments, and to be used for the answer. */
    uint32_t encoding;
    /* Name of the function: `greet`. */
    jf_str function;
    /* Position of the function in the interface's `description`, from 0; JF_NO_INDEX when the
     * library gave none. */
    uint32_t index;
    uint32_t reserved;
    /* The arguments, a record of the parameters: {"name":"Ada"}. Empty is the same as {}. Nothing
     * is checked when the interface has no description, not even that they are a record. */
    jf_str arguments;
    /* Microseconds that are left for the call as it starts; JF_NO_DEADLINE when nobody counts.
     * The host cannot interrupt a call: a long one looks at its clock. */
    uint64_t deadline_us;
    /* W3C `traceparent` of the caller, or empty. */
    jf_str traceparent;
    /* Since ABI 1.1, see JF_HAS. W3C `tracestate` of the caller, or empty. */
    jf_str tracestate;
} jf_call;

/* Where a call writes its answer. It belongs to the host, so no allocator crosses the border;
 * valid until `call` returns. */
typedef struct jf_sink {
    /* sizeof(jf_sink) in the host. */
    uint32_t size;
    uint32_t reserved;
    /* The host's; pass it to `write`. */
    void *context;
    /* [thread of the call] Appends a copy of the bytes. Returns 0; or nonzero when the answer has
     * become larger than the host takes: then `call` gives up with JF_ANSWER_TOO_LARGE, which is
     * how the call ends whatever it returns. What was written cannot be taken back: know the
     * status before you write. Never null. */
    int32_t (*write)(void *context, jf_str bytes);
} jf_sink;

/* ---- The plugin's side ----------------------------------------------------------------------- */

/* Who a plugin is. The host copies what it keeps: the table may be a local variable. */
typedef struct jf_about {
    /* sizeof(jf_about) in the library. */
    uint32_t size;
    uint32_t reserved;
    /* Name: `greeter-c`. */
    jf_str name;
    /* Semantic version: `1.0.0`. */
    jf_str version;
    /* Capabilities `name@version`, joined by single spaces: `batch@2 greeting@1`; or empty. */
    jf_str capabilities;
} jf_about;

/* Flags of an interface; the others are 0. */
/* `call` may run on any number of threads at once. */
#define JF_INTERFACE_ANY_THREAD 1u
/* `call` understands JF_ENCODING_BINARY; needs a `description`. */
#define JF_INTERFACE_BINARY 2u

/* One interface of a plugin. The table and what it points to must stay valid and unchanged for as
 * long as the process lives; a `static const` table does, `state` apart: see `stop`. */
typedef struct jf_interface {
    /* sizeof(jf_interface) in the library. */
    uint32_t size;
    /* JF_INTERFACE_… */
    uint32_t flags;
    /* Name and version: `demo:greeter/greeter@1.0.0`. */
    jf_str id;
    /* The interface described, as JSON (docs/protocol.md), for the host to compare with its own at
     * load. Empty: the host knows the id alone, and a wrong argument is found by `call`. */
    jf_str description;
    /* The plugin's; passed to the functions of this table. May be null. */
    void *state;
    /* [any-thread] with JF_INTERFACE_ANY_THREAD, else [one-thread]; never null.
     * Makes a call: finds the function, reads the arguments, writes the answer into the sink and
     * returns a JF_… status. It runs on a thread of the host, which waits. Two tables of a library
     * may be called at once, whatever their flags: what they share, they guard. */
    jf_status (*call)(void *state, const jf_call *call, const jf_sink *sink);
    /* [one-thread] The last `call` of this table has returned and no other will come: end your
     * threads, free `state`. May be null. Not called when the process dies first, nor while a
     * `call` does not return. */
    void (*stop)(void *state);
} jf_interface;

/* Where the library adds itself. Valid until `jackfield_register` returns: do not keep it. */
typedef struct jf_registry {
    /* sizeof(jf_registry) in the host. */
    uint32_t size;
    uint32_t reserved;
    /* The host's; pass it to the functions below. */
    void *context;
    /* [register] Says who the plugin is; once, before `add`. Returns 0, or nonzero when the host
     * refuses the plugin; it has noted why. Never null. */
    int32_t (*about)(void *context, const jf_about *about);
    /* [register] Adds an interface; once for each, at least one. Returns 0, or nonzero when the
     * host refuses it; it has noted why. Never null. */
    int32_t (*add)(void *context, const jf_interface *interface_table);
} jf_registry;

/* ---- What a plugin exports ------------------------------------------------------------------- */

/* A panic of this library aborts the process. C has no panics: leave it 0. */
#define JF_HEADER_PANIC_ABORT 1u

/* What a library says of itself before any of its code runs. Fixed bytes without pointers, so that
 * a host can read them from the file. */
typedef struct jf_header {
    /* "JACKFLD" and a NUL. */
    char magic[8];
    /* sizeof(jf_header) where the library was built. */
    uint32_t size;
    /* JF_ABI_MAJOR and JF_ABI_MINOR there. */
    uint16_t abi_major;
    uint16_t abi_minor;
    /* JF_HEADER_… */
    uint32_t flags;
    uint32_t reserved;
    /* What it was built for, `x86_64-linux`, padded with NUL. */
    char target[32];
    /* What it was built with, `my-sdk/1.0`, padded with NUL: for logs. */
    char sdk[32];
} jf_header;

/* Exported as data. Define it once, in one source file: JF_DEFINE_HEADER("my-sdk/1.0"); */
extern JF_EXPORT const jf_header jackfield_header;

#define JF_DEFINE_HEADER(sdk_name)                                                           \
    JF_STATIC_ASSERT(sizeof(sdk_name) <= 32, "the name of the SDK is at most 31 bytes long"); \
    const jf_header jackfield_header = {                                                     \
        "JACKFLD", sizeof(jf_header), JF_ABI_MAJOR, JF_ABI_MINOR, 0, 0, JF_TARGET, sdk_name}

/* [one-thread] Exported as a function; the host calls it once for each load. It calls
 * `registry->about` once and `registry->add` for each interface.
 *
 * Returns 0; or nonzero when the plugin will not run here, said why through `host->log`. Then, and
 * when the host refused something, what it added is not used: neither `call` nor `stop` comes.
 *
 * A file that is loaded again, by a reload or by a second host in the process, may be the same
 * image in memory: then this runs again, while tables of the first time may still be in use. Keep
 * what belongs to one load in `state`, in a table of its own, and not in global variables. */
typedef int32_t (*jf_register_fn)(const jf_host *host, const jf_registry *registry);
JF_EXPORT int32_t jackfield_register(const jf_host *host, const jf_registry *registry);

/* ---- The target, as Rust's `std::env::consts` names it ---------------------------------------- */

#ifndef JF_TARGET
#if defined(__x86_64__) || (defined(_M_X64) && !defined(_M_ARM64EC))
#define JF_ARCH "x86_64"
#elif defined(__i386__) || defined(_M_IX86)
#define JF_ARCH "x86"
#elif defined(__aarch64__) || defined(_M_ARM64)
#define JF_ARCH "aarch64"
#elif defined(__arm__) || defined(_M_ARM)
#define JF_ARCH "arm"
#elif defined(__riscv) && __riscv_xlen == 64
#define JF_ARCH "riscv64"
#elif defined(__powerpc64__)
#define JF_ARCH "powerpc64"
#elif defined(__s390x__)
#define JF_ARCH "s390x"
#elif defined(__loongarch__) && __loongarch_grlen == 64
#define JF_ARCH "loongarch64"
#else
#error "unknown architecture: define JF_TARGET as Rust's std::env::consts::ARCH, a dash, and OS"
#endif

#if defined(__ANDROID__)
#define JF_OS "android"
#elif defined(__linux__)
#define JF_OS "linux"
#elif defined(__APPLE__)
#define JF_OS "macos"
#elif defined(_WIN32)
#define JF_OS "windows"
#elif defined(__FreeBSD__)
#define JF_OS "freebsd"
#elif defined(__NetBSD__)
#define JF_OS "netbsd"
#elif defined(__OpenBSD__)
#define JF_OS "openbsd"
#else
#error "unknown system: define JF_TARGET as Rust's std::env::consts::ARCH, a dash, and OS"
#endif

#define JF_TARGET JF_ARCH "-" JF_OS
#endif

JF_STATIC_ASSERT(sizeof(jf_header) == 88, "a compiler pads the header");
#if UINTPTR_MAX == UINT64_MAX
JF_STATIC_ASSERT(sizeof(jf_str) == 16, "unexpected layout");
JF_STATIC_ASSERT(sizeof(jf_host) == 32, "unexpected layout");
JF_STATIC_ASSERT(sizeof(jf_call) == 88, "unexpected layout");
JF_STATIC_ASSERT(sizeof(jf_sink) == 24, "unexpected layout");
JF_STATIC_ASSERT(sizeof(jf_about) == 56, "unexpected layout");
JF_STATIC_ASSERT(sizeof(jf_interface) == 64, "unexpected layout");
JF_STATIC_ASSERT(sizeof(jf_registry) == 32, "unexpected layout");
#endif

#ifdef __cplusplus
}
#endif

#endif /* JACKFIELD_H */
