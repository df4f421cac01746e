/*
 * A greeter in C, written against jackfield.h and nothing else.
 *
 * It allocates nothing and has no state, so that any number of threads may call it: a name is
 * refused above 100 characters, and so always fits the stack. The order of this file: what the
 * plugin is, the call, then just enough JSON to read {"name":"Ada"} and to write "Hello, Ada!".
 */
#include "jackfield.h"

#include <stdio.h>

enum { NAME_CHARACTERS_MAX = 100, UTF8_BYTES_MAX = 4, ESCAPED_BYTES_MAX = 6 /* \u0007 */ };

/* A string that was read: kept as far as a name may reach, counted to its end. */
typedef struct {
    char bytes[NAME_CHARACTERS_MAX * UTF8_BYTES_MAX];
    size_t len;
    uint32_t characters;
} text;

/* What is left to read. */
typedef struct {
    const char *at, *end;
} reader;

static jf_status call(void *state, const jf_call *call, const jf_sink *sink);
static jf_status greet(jf_str arguments, const jf_sink *sink);
static jf_status answer(const jf_sink *sink, jf_status status, const char *bytes, size_t len);
static const char *read_arguments(jf_str arguments, text *name);
static int read_string(reader *json, text *into);
static size_t write_escaped(char *out, const text *from);

/* ---- What the plugin is ---------------------------------------------------------------------- */

JF_DEFINE_HEADER("jackfield.h by hand");

static const jf_about who = {
    .size = sizeof(jf_about),
    .name = JF_STR("greeter-c"),
    .version = JF_STR("1.0.0"),
    .capabilities = JF_STR("greeting@1 batch@2 polite@1"),
};

static const jf_interface greeter = {
    .size = sizeof(jf_interface),
    .flags = JF_INTERFACE_ANY_THREAD,
    .id = JF_STR("demo:greeter/greeter@1.0.0"),
    .call = call,
};

int32_t jackfield_register(const jf_host *host, const jf_registry *registry) {
    (void)host;
    int32_t refused = registry->about(registry->context, &who);
    return refused ? refused : registry->add(registry->context, &greeter);
}

/* ---- The call -------------------------------------------------------------------------------- */

static jf_status call(void *state, const jf_call *call, const jf_sink *sink) {
    (void)state;
    if (jf_str_is(call->function, "greet")) return greet(call->arguments, sink);
    return JF_UNIMPLEMENTED;
}

static jf_status greet(jf_str arguments, const jf_sink *sink) {
    static const char hello[] = "\"Hello, ", end[] = "!\"", empty[] = "{\"tag\":\"empty-name\"}";
    char out[sizeof(hello) + sizeof(((text *)0)->bytes) * ESCAPED_BYTES_MAX + sizeof(end)];
    text name = {.len = 0};

    const char *wrong = read_arguments(arguments, &name);
    if (wrong) return answer(sink, JF_BAD_ARGUMENTS, wrong, strlen(wrong));
    if (name.characters == 0) return answer(sink, JF_OWN_ERROR, empty, sizeof(empty) - 1);
    if (name.characters > NAME_CHARACTERS_MAX) {
        int len = snprintf(out, sizeof(out), "{\"tag\":\"too-long\",\"val\":%lu}", (unsigned long)name.characters);
        return answer(sink, JF_OWN_ERROR, out, (size_t)len);
    }
    size_t len = sizeof(hello) - 1;
    memcpy(out, hello, len);
    len += write_escaped(out + len, &name);
    memcpy(out + len, end, sizeof(end) - 1);
    return answer(sink, JF_OK, out, len + sizeof(end) - 1);
}

static jf_status answer(const jf_sink *sink, jf_status status, const char *bytes, size_t len) {
    jf_str all = {bytes, len};
    return sink->write(sink->context, all) ? JF_ANSWER_TOO_LARGE : status;
}

/* ---- JSON, read ------------------------------------------------------------------------------ */

static void skip_space(reader *json) {
    while (json->at < json->end && strchr(" \t\r\n", *json->at) && *json->at) json->at++;
}

/* Skips white space and takes one mark, if it comes next. */
static int take(reader *json, char mark) {
    skip_space(json);
    if (json->at == json->end || *json->at != mark) return 0;
    json->at++;
    return 1;
}

/* Reads {"name":"…"}, exactly. Returns what is wrong with it, or null. */
static const char *read_arguments(jf_str arguments, text *name) {
    static const char no_name[] = "`greet` wants the argument `name`, a string";
    static const char no_such[] = "`greet` has one argument, `name`";
    static const char no_json[] = "the arguments are not a JSON object";
    text key = {.len = 0};

    if (arguments.len == 0) return no_name;
    reader json = {arguments.data, arguments.data + arguments.len};
    if (!take(&json, '{')) return no_json;
    if (take(&json, '}')) return no_name;
    if (!read_string(&json, &key) || !take(&json, ':')) return no_json;
    if (key.len != 4 || memcmp(key.bytes, "name", 4) != 0) return no_such;
    if (!read_string(&json, name)) return no_name;
    if (take(&json, ',')) return no_such;
    if (!take(&json, '}')) return no_json;
    skip_space(&json);
    return json.at == json.end ? NULL : no_json;
}

/* Appends a character, if there is still room for it, and counts it. */
static void append(text *into, uint32_t c) {
    char *to = into->bytes + into->len;
    if (into->characters++ >= NAME_CHARACTERS_MAX) return;
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xC0 | c >> 6);
        *to++ = (char)(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        *to++ = (char)(0xE0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 0x3F));
        *to++ = (char)(0x80 | (c & 0x3F));
    } else {
        *to++ = (char)(0xF0 | c >> 18);
        *to++ = (char)(0x80 | (c >> 12 & 0x3F));
        *to++ = (char)(0x80 | (c >> 6 & 0x3F));
        *to++ = (char)(0x80 | (c & 0x3F));
    }
    into->len = (size_t)(to - into->bytes);
}

static int hex4(reader *json, uint32_t *unit) {
    if (json->end - json->at < 4) return 0;
    *unit = 0;
    for (int digit = 0; digit < 4; digit++) {
        char c = *json->at++;
        uint32_t value;
        if (c >= '0' && c <= '9') value = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f') value = (uint32_t)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F') value = (uint32_t)(c - 'A') + 10;
        else return 0;
        *unit = *unit << 4 | value;
    }
    return 1;
}

/* Reads what follows \u; beyond U+FFFF that is two halves, \ud83d\ude00, and half of one is no
 * character. */
static int read_unicode_escape(reader *json, uint32_t *c) {
    uint32_t low;
    if (!hex4(json, c)) return 0;
    if (*c < 0xD800 || *c > 0xDFFF) return 1;
    if (*c > 0xDBFF || json->end - json->at < 2 || *json->at++ != '\\' || *json->at++ != 'u') return 0;
    if (!hex4(json, &low) || low < 0xDC00 || low > 0xDFFF) return 0;
    *c = 0x10000 + ((*c - 0xD800) << 10 | (low - 0xDC00));
    return 1;
}

static int read_escape(reader *json, uint32_t *c) {
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const char *letter;
    if (json->at == json->end) return 0;
    if (*json->at == 'u') {
        json->at++;
        return read_unicode_escape(json, c);
    }
    letter = memchr(letters, *json->at++, sizeof(letters) - 1);
    if (!letter) return 0;
    *c = (uint32_t)meanings[letter - letters];
    return 1;
}

/* Reads the rest of a character that stands in UTF-8; 0 if it is broken, too long for its value, or
 * half of one. */
static int read_utf8(reader *json, unsigned char first, uint32_t *c) {
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    if (first < 0xC2 || first > 0xF4 || json->end - json->at < more) return 0;
    *c = first & (0x3Fu >> more);
    for (int byte = 0; byte < more; byte++) {
        unsigned char next = (unsigned char)*json->at++;
        if ((next & 0xC0) != 0x80) return 0;
        *c = *c << 6 | (next & 0x3Fu);
    }
    return *c >= least[more] && *c <= 0x10FFFF && (*c < 0xD800 || *c > 0xDFFF);
}

static int read_character(reader *json, uint32_t *c) {
    unsigned char first = (unsigned char)*json->at++;
    if (first == '\\') return read_escape(json, c);
    if (first >= 0x80) return read_utf8(json, first, c);
    *c = first;
    return first >= 0x20;
}

static int read_string(reader *json, text *into) {
    if (!take(json, '"')) return 0;
    while (json->at < json->end) {
        uint32_t c;
        if (*json->at == '"') {
            json->at++;
            return 1;
        }
        if (!read_character(json, &c)) return 0;
        append(into, c);
    }
    return 0;
}

/* ---- JSON, written --------------------------------------------------------------------------- */

/* JSON wants `"`, `\` and control characters escaped, and nothing else. */
static size_t write_escaped(char *out, const text *from) {
    static const char hex[] = "0123456789abcdef";
    char *to = out;
    for (size_t at = 0; at < from->len; at++) {
        unsigned char c = (unsigned char)from->bytes[at];
        if (c == '"' || c == '\\') {
            *to++ = '\\';
            *to++ = (char)c;
        } else if (c < 0x20) {
            memcpy(to, "\\u00", 4);
            to[4] = hex[c >> 4];
            to[5] = hex[c & 15];
            to += 6;
        } else {
            *to++ = (char)c;
        }
    }
    return (size_t)(to - out);
}
